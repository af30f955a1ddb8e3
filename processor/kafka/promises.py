"""What the producers of this project are configured with: defaults, the operator's properties, promises over all."""

from collections.abc import Mapping
from typing import Any, Final

MIB: Final = 2**20
BATCH_BYTES: Final = 1_000_000  # librdkafka's own default
QUEUE_BYTES: Final = 256 * MIB
LARGEST_MESSAGE_BYTES: Final = 1_000_000_000  # that librdkafka can be told


def producer_properties(
    connection: Mapping[str, str], *, delivery_timeout_s: float, max_record_bytes: int, linger_ms: float = 1
) -> dict[str, Any]:
    """Defaults under the operator's `connection` properties, promises over them.

    `delivery_timeout_s`: a record that is not acknowledged by then is given up.
    """
    batch_bytes = int(connection.get("batch.size", BATCH_BYTES))
    return {
        "compression.type": "lz4",
        "socket.timeout.ms": 10_000,
        "socket.connection.setup.timeout.ms": 5_000,
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": 1_000,
        # Also keeps one connection busy, so that "all brokers down" is never just an idle connection that was closed.
        "topic.metadata.refresh.interval.ms": 10_000,
        "queue.buffering.max.kbytes": max(QUEUE_BYTES, max_record_bytes) // 1024,
        "enable.random.seed": True,
        **connection,
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "allow.auto.create.topics": False,
        "linger.ms": linger_ms,
        "message.timeout.ms": round(delivery_timeout_s * 1000),
        "message.max.bytes": min(max_record_bytes, LARGEST_MESSAGE_BYTES),
        # A batch is judged by the topic's limit as a whole: a fuller one would be refused with all that is in it.
        "batch.size": min(batch_bytes, max_record_bytes),
    }


def dead_letter_properties(connection: Mapping[str, str], *, ack_timeout_s: float = 10) -> dict[str, Any]:
    """The dead-letter topic judges the compressed size, librdkafka the size before: let the topic judge."""
    return producer_properties(connection, delivery_timeout_s=ack_timeout_s - 1, max_record_bytes=100_000_000)
