"""A producer that keeps the promises of this project: a report without error means that every in-sync replica has the
record, in order, once per attempt of a client. Only what is told by `on_delivery` is known; a record whose report is an
error may still arrive.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException

from processor.deadline import Clock, Deadline
from processor.errors import TooLarge, Unavailable
from processor.kafka.acls import TOPIC, Acl, lacks
from processor.kafka.client import Client, OnEvent
from processor.kafka.reports import Reports
from processor.kafka.statistics import OnStatistics

REBUILD_EVERY_S: Final = 1.0
QUEUE_RECORDS: Final = 100_000  # librdkafka's own default

Headers = Sequence[tuple[str, str | bytes | None]]
Record = tuple[str, bytes | None, bytes | None, Headers]  # topic, key, value, headers
OnDelivery = Callable[[Exception | None], None]  # None: acknowledged


class QueueFull(Unavailable):
    """More records wait for their acknowledgement than the producer holds."""


class NotDelivered(Unavailable):
    """The broker refused a record, or did not acknowledge it in time. `kind`: librdkafka's name for why."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class PerhapsTooLarge(NotDelivered):
    """The broker refused the size of a batch, and this record was not alone in it."""


class RecordTooLarge(TooLarge):
    """`index`: which of the records given."""

    def __init__(self, index: int, limit_bytes: int) -> None:
        super().__init__(f"record {index}", limit_bytes)
        self.index = index


class Producer:
    """Thread-safe. `on_event` and `on_statistics` are called in the poll thread or in that of `serve`, and must not
    block nor raise.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        on_event: OnEvent = lambda _: None,
        clock: Clock = time.monotonic,
        on_statistics: OnStatistics | None = None,
    ) -> None:
        self._properties = dict(properties)
        self._limit_bytes = int(self._properties["message.max.bytes"])
        self._alone_above_bytes = int(self._properties["batch.size"])
        self._on_event = on_event
        self._on_statistics = on_statistics
        self._clock = clock
        self._replacing = threading.Lock()
        self._closed = False
        self._build()

    @property
    def queue_limit(self) -> int:
        """How many records may wait for their acknowledgement; bytes are limited besides."""
        return int(self._properties.get("queue.buffering.max.messages", QUEUE_RECORDS))

    @property
    def is_alive(self) -> bool:
        """Whether reports are served; not whether a broker answers."""
        return self._client.failed or self._client.is_polled

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, on_delivery: OnDelivery
    ) -> None:
        """Hand one record over; never waits. `on_delivery` is called once, in the poll thread or in that of `serve`; it
        must not block.

        `TooLarge`, `QueueFull` or `Unavailable` (closed, failed): the record was not taken, there is no report.
        """
        size = len(key or b"") + len(value or b"")
        try:
            with self._usable().using() as raw:
                raw.produce(
                    topic,
                    value,
                    key,
                    headers=list(headers) if headers else None,
                    on_delivery=lambda error, _: on_delivery(None if error is None else self._failure(error, size)),
                )
        except BufferError:
            raise QueueFull("too many records wait for the broker", reason="queue_full") from None
        except KafkaException as error:
            raise self._refusal(error.args[0]) from None

    def serve(self) -> None:
        """Tells what is known of records by now, in this thread; never waits. Who does so more often than each
        `client.POLL_S` hears of nearly all in its own thread; who does not loses nothing.
        """
        self._client.serve()

    def publish_all(self, records: Sequence[Record], timeout_s: float) -> None:
        """Returns when every record is acknowledged.

        `RecordTooLarge` names the first such record when the fate of all is known; `Unavailable`: some are not
        acknowledged, or were not in time. Any record may be there all the same.
        """
        deadline = Deadline.after(timeout_s, self._clock)
        failures = self._attempt(dict(enumerate(records)), deadline)
        unclear = [index for index, failure in failures.items() if isinstance(failure, PerhapsTooLarge)]
        for index in unclear:
            del failures[index]
            failures |= self._attempt({index: records[index]}, deadline)  # alone: the broker speaks of this one
        for index, failure in sorted(failures.items()):
            if isinstance(failure, TooLarge | PerhapsTooLarge):
                raise RecordTooLarge(index, self._limit_bytes)
        for failure in failures.values():
            raise failure

    def partitions(self, topic: str, timeout_s: float) -> int:
        """How many the topic has, 0 if there is no such topic; `Unavailable` if no broker tells, `Stop` if the brokers
        keep it from this user."""
        may_not_write = lacks(Acl(TOPIC, topic, "Write"))
        try:
            with self._usable().using() as raw:
                found = raw.list_topics(topic, timeout=timeout_s).topics[topic]
        except KafkaException as error:
            raise Unavailable(error.args[0].str()) from None
        except Unavailable:
            if self._client.may_not_write:
                raise may_not_write from None
            raise
        if found.error is None or found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return len(found.partitions)
        if found.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise may_not_write
        raise Unavailable(found.error.str())

    def close(self, timeout_s: float) -> None:
        """Waits for acknowledgements until then, gives up the rest, and reports every record."""
        self._closed = True
        deadline = Deadline.after(timeout_s, self._clock)
        while not deadline.passed() and self.waiting():
            time.sleep(0.01)
        self._client.close()

    def waiting(self) -> int:
        """Records without a report; none after a fatal error, which reports all. Never waits long enough to matter."""
        try:
            with self._client.using() as raw:
                return len(raw)
        except Unavailable:
            return 0

    def _attempt(self, records: Mapping[int, Record], deadline: Deadline) -> dict[int, Exception]:
        """Produce all and wait; those that failed, with the reason."""
        reports = Reports(records)
        for index, record in records.items():
            try:
                while not self._took(record, partial(reports.settle, index)):
                    reports.wait_for_one(deadline)
            except TooLarge as error:
                reports.settle(index, error)
        return reports.failures(deadline)

    def _took(self, record: Record, on_delivery: OnDelivery) -> bool:
        topic, key, value, headers = record
        try:
            self.produce(topic, key, value, headers, on_delivery)
        except QueueFull:
            return False
        return True

    def _usable(self) -> Client:
        if self._closed:
            raise Unavailable("shutting down", reason="shutting_down")
        if self._client.failed:
            self._replace()
        return self._client

    def _replace(self) -> None:
        """A producer that failed fatally never recovers. Not at every call: the cause may last (no permission)."""
        with self._replacing:
            if self._client.failed and self._clock() - self._built_at_s < REBUILD_EVERY_S:
                raise Unavailable("the producer failed and is being built anew", reason="producer_failed")
            if self._client.failed:
                self._build()

    def _build(self) -> None:
        self._client = Client(self._properties, self._on_event, self._on_statistics)
        self._built_at_s = self._clock()

    def _failure(self, error: KafkaError, size: int) -> Exception:
        """Of a record that was taken."""
        if error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
            return NotDelivered(error.str(), error.name())
        if size <= self._alone_above_bytes:
            return PerhapsTooLarge(error.str(), error.name())
        return TooLarge("the record", self._limit_bytes)

    def _refusal(self, error: KafkaError) -> Exception:
        """Of a record that was not taken."""
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return TooLarge("the record", self._limit_bytes)
        return NotDelivered(error.str(), error.name())
