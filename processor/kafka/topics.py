"""The topics: made as they must be, and which log a name stands for now."""

import math
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from processor.errors import ExitCode, Stop, Unavailable
from processor.kafka.acls import TOPIC, Acl, lacks
from processor.kafka.client import REFUSALS, refuses_us
from processor.kafka.client import log as librdkafka_log
from processor.kafka.properties import refused

DAY_MS: Final = 86_400_000
MIB: Final = 2**20
TIMEOUT_S: Final = 5.0
_NO_ANSWER: Final = {KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}
_NOT_ALLOWED: Final = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}


@dataclass(frozen=True, slots=True)
class TopicSpec:
    name: str
    partitions: int
    replication_factor: int
    retention_days: int
    max_message_bytes: int

    def config(self) -> dict[str, str]:
        return {
            # The record's time is the ingest time: `ended_at` as the record's time would let retention delete a
            # backfill at once, and the dedupe horizon is measured against it.
            "message.timestamp.type": "LogAppendTime",
            "cleanup.policy": "delete",
            "retention.ms": str(self.retention_days * DAY_MS),
            "max.message.bytes": str(self.max_message_bytes),
            "min.insync.replicas": str(2 if self.replication_factor > 2 else 1),
        }


@dataclass(frozen=True, slots=True)
class Topic:
    """What the broker says of a topic now."""

    cluster_id: str
    topic_id: str
    partitions: int


@dataclass(frozen=True, slots=True)
class TopicState:
    """How a topic is set up."""

    name: str
    brokers: int  # of the cluster
    replication_factor: int
    config: Mapping[str, str]

    @property
    def retention_s(self) -> float:
        """How long it keeps a record; infinity for one that keeps all."""
        retention_ms = int(self.config["retention.ms"])
        return math.inf if retention_ms < 0 else retention_ms / 1000


class Topics:
    """Every verb may raise `Unavailable` (no broker answers) and `Stop` (the brokers refuse us)."""

    def __init__(self, connection: Mapping[str, Any]) -> None:
        self._refusal: str | None = None
        self._unresolved = ""
        defaults: dict[str, Any] = {"socket.timeout.ms": round(TIMEOUT_S * 1000), "error_cb": self._on_error}
        try:
            self._admin = AdminClient({**defaults, **connection}, logger=librdkafka_log)
        except KafkaException as error:
            raise refused(error) from None

    def create(self, spec: TopicSpec) -> bool:
        """False if it exists already; then it is left as it is."""
        topic = NewTopic(spec.name, spec.partitions, spec.replication_factor, config=spec.config())
        try:
            self._result(self._admin.create_topics([topic], request_timeout=TIMEOUT_S)[spec.name])
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            if reason.code() in _NOT_ALLOWED:
                raise lacks(Acl(TOPIC, spec.name, "Create")) from error
            if reason.retriable() or reason.code() == KafkaError._TIMED_OUT:
                raise Unavailable(f"Kafka does not create {spec.name}: {reason.str()}") from error
            said = reason.str()
            if reason.code() == KafkaError.INVALID_REPLICATION_FACTOR:
                said = f"{said.rstrip('.')}: give `call-processor topics` --replication-factor (1 with one broker)"
            raise Stop(ExitCode.DEPENDENCY, f"Kafka refuses to create {spec.name}: {said}") from error
        return True

    def describe(self, name: str) -> Topic:
        """`Stop` if there is no such topic, or none for this user, who has to read it."""
        try:
            cluster = self._result(self._admin.describe_cluster(request_timeout=TIMEOUT_S))
            described = self._described(name)
        except KafkaException as error:
            raise _undescribed(name, error) from error
        return Topic(cluster.cluster_id, str(described.topic_id), len(described.partitions))

    def ask_id(self, name: str) -> "Future[Any]":
        """As `describe`, without waiting: what the future brings has a `topic_id`, or it raises `KafkaException`."""
        return self._admin.describe_topics(TopicCollection([name]), request_timeout=TIMEOUT_S)[name]

    def state(self, name: str, operation: str = "Read") -> TopicState:
        """As `describe`, for a user who needs this `operation`; and DescribeConfigs besides."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, name)
        try:
            described = self._described(name)
            cluster = self._result(self._admin.describe_cluster(request_timeout=TIMEOUT_S))
        except KafkaException as error:
            raise _undescribed(name, error, operation) from error
        try:
            entries = self._result(self._admin.describe_configs([resource], request_timeout=TIMEOUT_S)[resource])
        except KafkaException as error:
            if error.args[0].code() in _NOT_ALLOWED:
                raise lacks(Acl(TOPIC, name, "DescribeConfigs")) from error
            raise _undescribed(name, error, operation) from error
        replicas = min(len(partition.replicas) for partition in described.partitions)
        return TopicState(name, len(cluster.nodes), replicas, {entry.name: entry.value for entry in entries.values()})

    def end_offsets(self, name: str) -> dict[int, int]:
        """By partition, the offset after the last record. As `describe`."""
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        return self._offsets(name, self.describe(name).partitions, latest)

    def bounds(self, name: str) -> dict[int, tuple[int, int]]:
        """By partition, the first offset that the log still has, and the one after its last. As `describe`."""
        partitions = self.describe(name).partitions
        starts = self._offsets(name, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        ends = self._offsets(name, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        return {partition: (starts[partition], end) for partition, end in ends.items()}

    def _offsets(self, name: str, partitions: int, spec: OffsetSpec) -> dict[int, int]:
        asked = {TopicPartition(name, partition): spec for partition in range(partitions)}
        try:
            results = self._admin.list_offsets(asked, request_timeout=TIMEOUT_S)
            return {place.partition: self._result(future).offset for place, future in results.items()}
        except KafkaException as error:
            raise Unavailable(f"Kafka does not tell the offsets of {name}: {error.args[0].str()}") from error

    def _described(self, name: str) -> Any:
        asked = self._admin.describe_topics(TopicCollection([name]), request_timeout=TIMEOUT_S)
        return self._result(asked[name])

    def _result(self, future: "Future[Any]") -> Any:
        """That brokers refuse our credentials is an event of its own, told when the client is polled. It tries again
        until the time is over, and so it should: TLS may fail while a broker restarts."""
        self._admin.poll(0)
        self._refusal = None
        try:
            return future.result(timeout=2 * TIMEOUT_S)
        except TimeoutError:  # the client itself is late with its own timeout
            raise Unavailable("no Kafka broker answers") from None
        except KafkaException as error:
            self._admin.poll(0)
            if self._refusal is not None:
                raise refuses_us(self._refusal) from None
            if self._unresolved and error.args[0].code() in _NO_ANSWER:
                raise Unavailable(f"no Kafka broker answers ({self._unresolved})") from None
            raise

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in REFUSALS:
            self._refusal = error.str()
        elif error.code() == KafkaError._RESOLVE:
            self._unresolved = error.str()


def _undescribed(name: str, error: KafkaException, operation: str = "Read") -> Exception:
    """`operation`: what this user needs on the topic; Read and Write include Describe."""
    reason: KafkaError = error.args[0]
    if reason.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return Stop(ExitCode.DEPENDENCY, f"topic {name} does not exist: run `call-processor topics`")
    if reason.code() in _NOT_ALLOWED:
        return lacks(Acl(TOPIC, name, operation))
    return Unavailable(f"Kafka does not describe {name}: {reason.str()}")
