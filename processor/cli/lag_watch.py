"""Where the log ends, asked beside the worker's loop, so that the lag goes on growing while the loop cannot read."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, Self

import structlog

from processor.errors import Stop, Unavailable
from processor.metrics import WorkerMetrics
from processor.worker.lag import Lag

log = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 5.0

EndOffsets = Callable[[], Mapping[int, int]]  # `kafka.topics.Topics.end_offsets` of the topic


class LagWatch:
    """A context manager: in a thread of its own."""

    def __init__(self, end_offsets: EndOffsets, lag: Lag, metrics: WorkerMetrics) -> None:
        self._end_offsets = end_offsets
        self._lag = lag
        self._metrics = metrics
        self._told_s = time.monotonic()
        self._silent = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag-watch", daemon=True)
        metrics.lag_records.set_function(lag.records)
        metrics.lag_seconds.set_function(lambda: lag.seconds(now_ms()))
        metrics.checkpoint_age_seconds.set_function(lambda: lag.checkpoint_ages(time.monotonic()))
        metrics.log_end_age_seconds.set_function(lambda: time.monotonic() - self._told_s)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Does not wait for an answer."""
        self._stopping.set()
        self._thread.join(0.2)

    def _run(self) -> None:
        while True:
            self._look()
            if self._stopping.wait(LOOK_EVERY_S):
                return

    def _look(self) -> None:
        asked_ms = now_ms()
        try:
            self._lag.ended(self._end_offsets(), asked_ms)
        except (Unavailable, Stop) as error:
            self._say(str(error))
        except Exception as error:  # noqa: BLE001  # a thread that ends would never look again
            self._say(type(error).__name__)
        else:
            self._told_s = time.monotonic()
            self._silent = False

    def _say(self, why: str) -> None:
        """Once, until it is known again."""
        if not (self._silent or self._stopping.is_set()):
            log.warning("nobody tells where the log ends: the lag is as it was", reason=why)
        self._silent = True


def now_ms() -> float:
    return time.time() * 1000
