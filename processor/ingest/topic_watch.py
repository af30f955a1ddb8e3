"""The first thing that the door wants to know of the brokers: whether the topic is there."""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from processor.deadline import Clock, Deadline
from processor.errors import ExitCode, Stop, Unavailable
from processor.ingest.outage import Outage
from processor.kafka.client import refuses_us

log = structlog.get_logger(__name__)

ASK_EVERY_S: Final = 0.5
ANSWER_WITHIN_S: Final = 2.0
SAY_EVERY_S: Final = 10.0
START_WITHIN_S: Final = 3.0  # the door opens then, whatever is known
SURELY: Final = 3  # answers: a broker that has just started may not know its topics and their ACLs yet

Partitions = Callable[[str, float], int]  # topic, timeout: `kafka.producer.Producer.partitions`


class TopicWatch:
    """Asks until the topic was seen once, in a thread of its own. What happens to it later is told by records.

    A context manager: leaving it ends the thread.
    """

    def __init__(self, partitions: Partitions, topic: str, outage: Outage, clock: Clock = time.monotonic) -> None:
        self._partitions = partitions
        self._topic = topic
        self._outage = outage
        self._clock = clock
        self._seen = threading.Event()
        self._stop = threading.Event()
        self._refusal: Stop | None = None
        self._refusals = 0  # in a row
        self._say_at_s = clock() + SAY_EVERY_S
        self._thread = threading.Thread(target=self._watch, name="topic-watch", daemon=True)

    def __enter__(self) -> "TopicWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def seen(self) -> bool:
        return self._seen.is_set()

    def wait_for_first_answer(self) -> None:
        """`Stop` if the brokers answer and there is no such topic, or not for us, or if they refuse us. Returns if it
        is there, or if nobody answers yet."""
        deadline = Deadline.after(START_WITHIN_S, self._clock)
        while not self._seen.wait(0.02) and (self._refusal is not None or not deadline.passed()):
            if self._refusal is not None and self._refusals >= SURELY:
                raise self._refusal
            if self._outage.refused_because is not None:
                raise refuses_us(self._outage.refused_because)
            if self._outage.is_known:
                return

    def _watch(self) -> None:
        while not self._stop.is_set():
            problem = self._look()
            if problem is None:
                self._seen.set()
                return
            if self._clock() >= self._say_at_s:
                self._say_at_s = self._clock() + SAY_EVERY_S
                log.warning("not ready", reason=problem)
            self._stop.wait(ASK_EVERY_S)

    def _look(self) -> str | None:
        try:
            if self._partitions(self._topic, ANSWER_WITHIN_S):
                return None
            refusal = Stop(ExitCode.DEPENDENCY, f"topic {self._topic} does not exist: run `call-processor topics`")
        except Unavailable as error:
            self._refusal, self._refusals = None, 0
            return f"the topic {self._topic} cannot be looked for: {error}"
        except Stop as not_allowed:
            refusal = not_allowed
        self._refusal = refusal
        self._refusals += 1
        return str(refusal)
