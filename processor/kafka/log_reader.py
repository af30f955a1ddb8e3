"""A reader of the log beside the consumer group: it is no member, and moves nobody's offsets."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import confluent_kafka as ck
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from processor.batch import Reading, offset_of, partition_of
from processor.errors import ExitCode, Stop, Unavailable
from processor.kafka.client import REFUSALS, refuses_us
from processor.kafka.client import log as librdkafka_log
from processor.kafka.properties import refused

BROKER_TIMEOUT_S: Final = 10.0


class LogReader:
    """Every verb may raise `Unavailable` and `Stop`. To be closed."""

    def __init__(self, connection: Mapping[str, Any], group: str, topic: str) -> None:
        self._topic = topic
        properties = {
            "queued.max.messages.kbytes": 32768,
            "fetch.queue.backoff.ms": 5,
            **{name: value for name, value in connection.items() if name != "group.protocol"},
            "group.id": group,  # needed for a consumer; the group never hears of us
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
        try:
            self._consumer = ck.Consumer({**properties, "error_cb": _say, "logger": librdkafka_log})
        except KafkaException as error:
            raise refused(error) from None

    def bounds(self, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        """The first offset that each log still has, and the one after its last."""
        try:
            return {
                partition: self._consumer.get_watermark_offsets(
                    TopicPartition(self._topic, partition), timeout=BROKER_TIMEOUT_S
                )
                for partition in partitions
            }
        except KafkaException as error:
            raise Unavailable(f"the broker does not tell the log's bounds: {error.args[0].str()}") from error

    def begin(self, offsets: Mapping[int, int]) -> None:
        """Read these partitions, from these offsets on."""
        self._consumer.assign([TopicPartition(self._topic, p, offset) for p, offset in offsets.items()])

    def end(self, partition: int) -> None:
        """Read no more of it."""
        self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])

    def seek(self, offsets: Mapping[int, int]) -> None:
        try:
            for partition, offset in offsets.items():
                self._consumer.seek(TopicPartition(self._topic, partition, offset))
        except KafkaException as error:
            raise Unavailable(f"cannot seek: {error.args[0].str()}") from error

    def read(self, max_records: int, timeout_s: float) -> Reading:
        try:
            messages = self._consumer.consume(max_records, timeout_s)
        except KafkaException as error:
            raise Unavailable(f"reading failed: {error.args[0].str()}") from error
        records = [message for message in messages if message.error() is None]
        return Reading(records, dict(self._ends(message for message in messages if message.error() is not None)))

    def close(self) -> None:
        self._consumer.close()

    def _ends(self, events: Iterable[Any]) -> Iterable[tuple[int, int]]:
        for event in events:
            error: KafkaError = event.error()
            if error.code() == KafkaError._PARTITION_EOF:
                yield partition_of(event), offset_of(event)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise Stop(
                    ExitCode.DEPENDENCY,
                    f"partition {event.partition()} of {self._topic} no longer has the offset to read next: records "
                    "were deleted while they were read; start again",
                )
            elif error.code() in REFUSALS:
                raise refuses_us(error.str())
            else:
                raise Unavailable(f"reading partition {event.partition()} failed: {error.str()}")


def _say(error: KafkaError) -> None:
    librdkafka_log.debug("%s", error.str())
