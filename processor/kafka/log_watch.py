"""Whether the topic's name still stands for the log that is counted.

A topic that is deleted and created again is another log, and so is the topic of another cluster behind the same
address. The client goes on in it without a word, at the old offset: what lies before would never be counted.
"""

from concurrent.futures import Future
from typing import Any, Final, Protocol

import structlog
from confluent_kafka import KafkaException

from processor.deadline import Clock
from processor.errors import ExitCode, Stop, Unavailable
from processor.kafka.topics import Topic

log = structlog.get_logger(__name__)

ASK_EVERY_S: Final = 5.0


class Broker(Protocol):
    """As `processor.kafka.topics.Topics`."""

    def describe(self, name: str) -> Topic: ...
    def ask_id(self, name: str) -> "Future[Any]": ...


class LogWatch:
    """`known`: the log as it was when the counting of this process began."""

    def __init__(self, broker: Broker, name: str, known: Topic, clock: Clock) -> None:
        self._broker = broker
        self._name = name
        self._known = known
        self._clock = clock
        self._asked: Future[Any] | None = None
        self._ask_at_s = clock() + ASK_EVERY_S

    def look(self) -> None:
        """Ask now and then, without waiting for the answer. `Stop` if it is another log."""
        if self._asked is None:
            if self._clock() >= self._ask_at_s:
                self._asked = self._broker.ask_id(self._name)
        elif self._asked.done():
            answer, self._asked = self._asked, None
            self._ask_at_s = self._clock() + ASK_EVERY_S
            self._judge(answer)

    def check(self) -> None:
        """Ask now. `Stop` if it is another log; `Unavailable` if no broker tells, or if there is no such topic now."""
        now = self._describe()
        if now.cluster_id != self._known.cluster_id:
            raise _other_log(f"another cluster answers ({now.cluster_id}, it was {self._known.cluster_id})")
        if now.topic_id != self._known.topic_id:
            raise _other_log(
                f"topic {self._name} was deleted and created again (its id is {now.topic_id}, it was "
                f"{self._known.topic_id})"
            )

    def _describe(self) -> Topic:
        try:
            return self._broker.describe(self._name)
        except Stop as refusal:  # ends a process that starts; one that runs waits: the broker may just have started
            raise Unavailable(str(refusal)) from None

    def _judge(self, answer: "Future[Any]") -> None:
        try:
            if str(answer.result().topic_id) != self._known.topic_id:
                self.check()
        except (KafkaException, Unavailable) as error:  # the broker is away, or the topic: there is nothing to read
            log.warning("nobody tells which log the topic is", topic=self._name, reason=str(error))


def _other_log(what: str) -> Stop:
    return Stop(
        ExitCode.PROTECT_NUMBERS,
        f"{what}: its offsets stand for other records; point the worker at the right one, or take it over with "
        "`call-processor checkpoints adopt`",
    )
