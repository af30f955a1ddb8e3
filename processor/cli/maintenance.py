"""What `call-processor maintain` does, done by the workers themselves: one of them at a time, off the loop."""

import datetime as dt
import threading
import time
from typing import Final, Self

import structlog

from processor.cli.log import topics_of
from processor.cli.maintain import maintain_once, told
from processor.config import Settings
from processor.deadline import Deadline
from processor.errors import Stop, Unavailable
from processor.kafka.topics import Topics
from processor.metrics import WorkerMetrics
from processor.sinks.postgres.maintain import is_due, read_state

log = structlog.get_logger(__name__)

FIRST_LOOK_S: Final = 10.0  # a worker that just starts has better things to do
LOOK_EVERY_S: Final = 60.0
DUE_EVERY: Final = dt.timedelta(hours=1)
DEADLINE_S: Final = 120.0


class Maintenance:
    """A context manager: in a thread of its own, with a session of its own, so that the worker's loop never waits for
    it. It looks every minute; whoever finds that an hour has passed does the work, unless another one is at it."""

    def __init__(self, settings: Settings, metrics: WorkerMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Does not wait for a statement that runs: the server rolls it back when our socket is closed."""
        self._stopping.set()
        self._thread.join(0.2)

    def _run(self) -> None:
        topics: Topics | None = None
        wait_s = FIRST_LOOK_S
        while not self._stopping.wait(wait_s):
            wait_s = LOOK_EVERY_S
            try:
                topics = topics or topics_of(self._settings)
                self._look(topics)
            except (Unavailable, Stop) as error:
                self._failed(str(error))
            except Exception as error:  # noqa: BLE001  # a thread that ends would never try again
                self._failed(type(error).__name__)

    def _look(self, topics: Topics) -> None:
        dsn, deadline = self._settings.dsn, Deadline.after(DEADLINE_S)
        if is_due(dsn(), DUE_EVERY, deadline):
            done = maintain_once(dsn, self._settings, topics, deadline)
            if done is not None:
                log.info("maintained", done=list(told(done)))
        state = read_state(dsn(), dt.datetime.now(dt.UTC), deadline)
        last_run_s = time.monotonic() - state.age_s
        self._metrics.maintenance_age_seconds.set_function(lambda: time.monotonic() - last_run_s)
        self._metrics.tomorrow_exists.set(state.has_tomorrow)
        self._metrics.schema_version.set(state.schema_version)
        for table, size in state.sizes.items():
            self._metrics.table_bytes.labels(table).set(size.bytes)
            self._metrics.table_rows.labels(table).set(size.rows)

    def _failed(self, why: str) -> None:
        if not self._stopping.is_set():
            self._metrics.maintenance_failures.inc()
            log.warning("maintenance did not come to an end", reason=why)
