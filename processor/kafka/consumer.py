"""The consumer group's member: reads records, follows assignments, never commits what decides anything.

Offsets live in the sink. What is committed to Kafka is a mirror for lag tools and autoscalers.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

import confluent_kafka as ck
import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from processor.batch import Reading, offset_of, partition_of
from processor.deadline import Clock, Deadline
from processor.errors import ExitCode, ReadFailed, Stop, Unavailable
from processor.kafka.acls import GROUP, TOPIC, Acl, lacks
from processor.kafka.client import log as librdkafka_log
from processor.kafka.properties import LEAST_POLL_INTERVAL_MS, refused
from processor.kafka.statistics import OnStatistics, reporting

log = structlog.get_logger(__name__)

HEARTBEAT_MS: Final = 1000
BROKER_TIMEOUT_S: Final = 5.0
SAME_ERROR_EVERY_S: Final = 10.0

# Set by the classic protocol's members; under KIP-848 they are the broker's, and the client refuses them.
_CLASSIC: Final = {"partition.assignment.strategy": "cooperative-sticky", "heartbeat.interval.ms": HEARTBEAT_MS}
# Ends a worker that has not joined yet: one that has goes on when it is allowed again.
_NOT_ALLOWED: Final = {KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED}


class Watch(Protocol):
    """Whether the topic is still the log that is counted."""

    def look(self) -> None: ...
    def check(self) -> None: ...


class Listener(Protocol):
    """Told of assignments from within `Consumer.read`. Must only change its own state, and never raise."""

    def assigned(self, partitions: Collection[int]) -> None: ...
    def revoked(self, partitions: Collection[int]) -> None: ...
    def lost(self, partitions: Collection[int]) -> None:
        """As `revoked`, but others may have them already: the group had given us up."""


def consumer_properties(connection: Mapping[str, Any], group: str, session_timeout_s: float) -> dict[str, Any]:
    properties = {
        "queued.max.messages.kbytes": 32768,  # what one read may bring at most, beyond a single record
        "fetch.queue.backoff.ms": 5,  # at the default of a second the consumer stalls whenever its queue was full
        "topic.metadata.refresh.interval.ms": 10_000,  # an added partition is seen within this
        "socket.timeout.ms": 10_000,
        "reconnect.backoff.max.ms": 1000,
        "max.poll.interval.ms": LEAST_POLL_INTERVAL_MS,
        **connection,
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "error",  # a lost position stops the worker; it never jumps
        "isolation.level": "read_committed",
        # A log may end with offsets that have no record (markers of transactions, aborted records): without being told
        # of the end, the worker would never pass them.
        "enable.partition.eof": True,
    }
    if properties.get("group.protocol") == "consumer":
        return properties
    return {**properties, **_CLASSIC, "session.timeout.ms": round(session_timeout_s * 1000)}


class Consumer:
    """`watch` is asked so often that the log can be another one for some seconds only; then it raises `Stop`."""

    def __init__(
        self,
        properties: Mapping[str, Any],
        topic: str,
        listener: Listener,
        watch: Watch,
        on_statistics: OnStatistics | None = None,
    ) -> None:
        self._topic = topic
        self._group = str(properties["group.id"])
        self._has_joined = False
        self._listener = listener
        self._watch = watch
        self._callback_error: Exception | None = None
        self._complained_of: tuple[Any, ...] = ()
        try:
            self._consumer = ck.Consumer(
                {**reporting(on_statistics, properties), "error_cb": ErrorLog(), "logger": librdkafka_log}
            )
        except KafkaException as error:
            raise refused(error) from None
        self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def read(self, max_records: int, timeout_s: float) -> Reading:
        """At most `max_records`; serves the callbacks. `ReadFailed`: everything buffered must be read again."""
        self._watch.look()
        try:
            messages = self._consumer.consume(max_records, timeout_s)
        except KafkaException as error:
            raise ReadFailed(str(error.args[0])) from error
        if self._callback_error is not None:
            raise self._callback_error
        events = [message for message in messages if message.error() is not None]
        records = [message for message in messages if message.error() is None] if events else messages
        return Reading(records, self._ends(events))

    def pause(self, partitions: Iterable[int]) -> None:
        self._consumer.pause(self._partitions(partitions))

    def resume(self, partitions: Iterable[int]) -> None:
        self._consumer.resume(self._partitions(partitions))

    def seek(self, offsets: Mapping[int, int]) -> None:
        """`Unavailable` where the client cannot seek now (a partition that is just going)."""
        try:
            for partition, offset in offsets.items():
                self._consumer.seek(TopicPartition(self._topic, partition, offset))
        except KafkaException as error:
            raise Unavailable(f"cannot seek: {error.args[0]}") from error

    def log_bounds(self, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        """The first offset that each log still has, and the one after its last, asked from the broker.

        A partition that has no leader now is left out: nobody could tell, and the others must not wait for it.
        """
        self._watch.check()
        deadline = Deadline.after(BROKER_TIMEOUT_S)
        try:
            known = self._consumer.list_topics(self._topic, timeout=deadline.remaining_s()).topics[self._topic]
            led = {number for number, partition in known.partitions.items() if partition.leader >= 0}
            return {
                place.partition: self._consumer.get_watermark_offsets(place, timeout=deadline.remaining_s())
                for place in self._partitions(led.intersection(partitions))
            }
        except KafkaException as error:
            raise Unavailable(f"the broker does not tell the log's bounds: {error.args[0]}") from error

    def mirror(self, next_offsets: Mapping[int, int]) -> None:
        """Tell Kafka, for lag tools; what becomes of it is nobody's concern (it fails in every rebalance)."""
        offsets = [TopicPartition(self._topic, partition, offset) for partition, offset in next_offsets.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            log.debug("mirror commit not sent", error=str(error.args[0]))

    def close(self) -> None:
        """Leave the group, so that others need not wait for the session timeout."""
        self._consumer.close()

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        # Nobody knows the offsets before the sink has answered: begin anywhere, paused; the loop seeks and resumes.
        try:
            consumer.incremental_assign([TopicPartition(p.topic, p.partition, ck.OFFSET_BEGINNING) for p in partitions])
            consumer.pause([TopicPartition(p.topic, p.partition) for p in partitions])
        except KafkaException as error:  # raising here would silence the consumer for ever: `read` raises it
            self._callback_error = error
        self._has_joined = True
        self._listener.assigned([p.partition for p in partitions])

    def _on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        self._listener.revoked([p.partition for p in partitions])

    def _on_lost(self, consumer: Any, partitions: list[Any]) -> None:
        self._listener.lost([p.partition for p in partitions])

    def _lost_position(self, event: Any) -> Stop:
        with suppress(Unavailable):
            self._watch.check()  # another log is the likeliest reason, and names itself
        return Stop(
            ExitCode.PROTECT_NUMBERS,
            f"partition {event.partition()} of {self._topic} no longer has the offset to read next "
            f"({event.error().str()}): records may be lost; see `call-processor checkpoints`",
        )

    def _ends(self, events: Iterable[Any]) -> dict[int, int]:
        """By partition, the offset where its log ends, of those that were read so far; all other events are errors."""
        ends = {}
        for event in events:
            error: KafkaError = event.error()
            if error.code() == KafkaError._PARTITION_EOF:
                ends[partition_of(event)] = offset_of(event)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise self._lost_position(event)
            elif error.code() in _NOT_ALLOWED and not self._has_joined:
                no_group = error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
                raise lacks(Acl(GROUP, self._group, "Read") if no_group else Acl(TOPIC, self._topic, "Read"))
            elif error.fatal():
                raise KafkaException(error)
            else:
                self._complain(event, error)
        return ends

    def _complain(self, event: Any, error: KafkaError) -> None:
        """Not again of the same place: a record that cannot be unpacked comes back twice a second."""
        place = error.code(), event.partition(), event.offset()
        if place == self._complained_of:
            return
        self._complained_of = place
        if error.code() == KafkaError._BAD_COMPRESSION:
            log.error(
                "a record cannot be unpacked, and its partition waits there: if it is no damage, give the client more "
                "room, receive.message.max.bytes in KAFKA__PROPERTIES_FILE",
                partition=event.partition(), offset=event.offset(), detail=error.str(),
            )  # fmt: skip
        else:
            log.warning("consumer error", error=error.name(), partition=event.partition(), detail=error.str())

    def _partitions(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition) for partition in partitions]


class ErrorLog:
    """What the client tells of its brokers. It tells of every failed connect, 20 times a second while a broker is away:
    each kind of error gets one line in ten seconds."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._again_at_s: dict[str, float] = {}

    def __call__(self, error: KafkaError) -> None:
        name, now_s = error.name(), self._clock()
        if now_s >= self._again_at_s.get(name, now_s):
            self._again_at_s[name] = now_s + SAME_ERROR_EVERY_S
            log.warning("kafka", error=name, detail=error.str())
