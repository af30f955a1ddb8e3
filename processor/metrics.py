"""Every Prometheus metric, declared once. No label ever comes from a client: no project, model, call id or path.

One process has one registry and serves it on its own port (prometheus_client's multiprocess mode would lose
custom collectors and process metrics). `docs/metrics.md` is made of these declarations: `make docs`.
"""

import math
import platform
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from processor import __version__
from processor.errors import DeadLetterReason
from processor.kafka.statistics import Statistics
from processor.sinks.base import Checkpoint
from processor.tallies import ByPartition, Distribution, Tally

PREFIX = "call_processor_"
LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
DELAY_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600, 86400)
BYTES = tuple(4**power for power in range(4, 13))  # 256 B to 16 MiB
RECORDS = (1, 10, 100, 1000, 5000, 10000, 20000, 50000)

# How the door answers, by the word for it: `requests_total` begins with all of them at 0.
ANSWERS: Final = {
    "accepted": 200, "served": 200, "unauthorized": 401, "forbidden": 403, "not_found": 404, "wrong_method": 405,
    "too_slow": 408, "too_large": 413, "not_json": 415, "wrong_encoding": 415, "invalid": 422, "rate_limit": 429,
    "left": 499, "fault": 500, "broker_away": 503, "no_acknowledgement": 503, "delivery_failed": 503,
    "queue_full": 503, "producer_failed": 503, "in_flight_bytes": 503, "in_flight_requests": 503, "key_file": 503,
    "shutting_down": 503, "no_room": 503,
}  # fmt: skip

_LABELS: Final = {reason: (str(status), reason) for reason, status in ANSWERS.items()}

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, which nothing reads


def new_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


class ProcessMetrics:
    """Of either role. `role`: ingest or worker; `librdkafka`: its version."""

    def __init__(self, registry: CollectorRegistry, role: str, librdkafka: str, started_s: float) -> None:
        self.build_info = Gauge(
            PREFIX + "build_info",
            "Always 1: which program this is.",
            ["role", "version", "python", "librdkafka"],
            registry=registry,
        )
        self.build_info.labels(role, __version__, platform.python_version(), librdkafka).set(1)
        self.start_time_seconds = Gauge(
            PREFIX + "start_time_seconds", "When this process began, seconds since 1970.", registry=registry
        )
        self.start_time_seconds.set(started_s)
        self.loop_turn_age_seconds = Gauge(
            PREFIX + "loop_turn_age_seconds",
            "Since the loop of the door or of the worker last turned: liveness fails at 30 and at 60.",
            registry=registry,
        )
        self.kafka_brokers_connected = Gauge(
            PREFIX + "kafka_brokers_connected", "Brokers with an open connection.", registry=registry
        )
        self.kafka_round_trip_seconds = Gauge(
            PREFIX + "kafka_round_trip_seconds",
            "99th percentile of the round trips to the slowest broker, over the last 10 s; those of a worker contain "
            "the half second in which a broker waits for records.",
            registry=registry,
        )
        self.kafka_disconnects = Counter(
            PREFIX + "kafka_disconnects_total", "Connections to brokers that ended.", registry=registry
        )
        self.kafka_request_timeouts = Counter(
            PREFIX + "kafka_request_timeouts_total", "Requests that a broker did not answer in time.", registry=registry
        )
        self._disconnects = self._request_timeouts = 0

    def kafka(self, now: Statistics) -> None:
        """Called by the one client that is watched; counts begin anew where it was built anew."""
        self.kafka_brokers_connected.set(now.brokers_connected)
        self.kafka_round_trip_seconds.set(now.round_trip_s)
        self.kafka_disconnects.inc(_growth(self._disconnects, now.disconnects))
        self.kafka_request_timeouts.inc(_growth(self._request_timeouts, now.request_timeouts))
        self._disconnects, self._request_timeouts = now.disconnects, now.request_timeouts


def _growth(before: int, now: int) -> int:
    return now if now < before else now - before


class IngestMetrics:
    """Told by the event loop, save where another thread is named."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Tally(
            PREFIX + "requests_total",
            "Answers of the door, by HTTP status and reason (499, left: the client left before its body was complete).",
            ("status", "reason"),
            _LABELS.values(),
            registry,
        )
        self.request_seconds = Distribution(
            PREFIX + "request_seconds",
            "From the request's head to its answer, acknowledgement included.",
            LATENCY_S,
            registry,
        )
        self.ack_seconds = Distribution(
            PREFIX + "ack_seconds",
            "From handing a record to the producer to the broker's acknowledgement.",
            LATENCY_S,
            registry,
        )
        self.body_bytes = Distribution(
            PREFIX + "body_bytes", "Size of bodies as JSON: inflated, where they were gzip.", BYTES, registry
        )
        self.record_bytes = Distribution(PREFIX + "record_bytes", "Key and value of records made.", BYTES, registry)
        self.in_flight_bytes = Gauge(
            PREFIX + "in_flight_bytes", "Bytes of bodies received and not yet answered.", registry=registry
        )
        self.in_flight_limit_bytes = Gauge(
            PREFIX + "in_flight_limit_bytes", "At which more bodies are turned away.", registry=registry
        )
        self.in_flight_requests = Gauge(
            PREFIX + "in_flight_requests", "Requests begun and not yet answered.", registry=registry
        )
        self.in_flight_limit_requests = Gauge(
            PREFIX + "in_flight_limit_requests", "At which more requests are turned away.", registry=registry
        )
        self.producer_queue_records = Gauge(
            PREFIX + "producer_queue_records", "Records that wait for their acknowledgement.", registry=registry
        )
        self.producer_queue_limit_records = Gauge(
            PREFIX + "producer_queue_limit_records", "At which the producer takes no more.", registry=registry
        )
        self.producer_errors = Tally(
            PREFIX + "producer_errors_total",
            "Records that were not acknowledged, by librdkafka's name for the error.",
            ("kind",),
            [("_MSG_TIMED_OUT",)],
            registry,
        )
        self.keys = Gauge(PREFIX + "keys", "API keys in force (0 without a key file).", registry=registry)
        self.key_file_broken = Gauge(
            PREFIX + "key_file_broken",
            "1 while the key file is broken, and the keys read before stay in force; else 0.",
            registry=registry,
        )
        self.negative_counts = Counter(
            PREFIX + "negative_counts_total", "Accepted calls with a negative count in them.", registry=registry
        )
        self.broker_away = Gauge(
            PREFIX + "broker_away", "1 while no broker is known to answer, else 0.", registry=registry
        )

    def answered(self, reason: str, seconds: float) -> None:
        """`reason`: one of `ANSWERS`."""
        self.requests.inc(_LABELS[reason])
        self.request_seconds.observe(seconds)


class WorkerMetrics:
    """What a worker counted: told by its loop. What it sees of the log and of the tables: by threads beside it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.records_read = Counter(
            PREFIX + "records_read_total", "Records whose outcome is committed to the sink.", registry=registry
        )
        self.calls_counted = Counter(PREFIX + "calls_counted_total", "Calls counted.", registry=registry)
        self.duplicates = Counter(
            PREFIX + "duplicates_total", "Records that repeat a call which was counted before.", registry=registry
        )
        self.conflicts = Counter(
            PREFIX + "conflicts_total", "Duplicates whose counted fields differ from the first.", registry=registry
        )
        self.dead_letters = Counter(
            PREFIX + "dead_letters_total", "Records set aside for good, by reason.", ["reason"], registry=registry
        )
        for reason in DeadLetterReason:  # so that the first one is an increase
            self.dead_letters.labels(reason)
        self.skipped = Counter(PREFIX + "skipped_total", "Records without a value (tombstones).", registry=registry)
        self.gap_offsets = Counter(
            PREFIX + "gap_offsets_total",
            "Offsets for which the log has no record (transaction markers, compaction).",
            registry=registry,
        )
        self.unaccounted_records = Gauge(
            PREFIX + "unaccounted_records",
            "Offsets passed less records accounted for, over this worker's checkpoints: 0 is right.",
            registry=registry,
        )
        self.native_failures = Counter(
            PREFIX + "native_failures_total",
            "Batches that were decoded row by row, because the native library failed: look at the log.",
            registry=registry,
        )
        self.batch_records = Histogram(
            PREFIX + "batch_records", "Records of a written batch.", buckets=RECORDS, registry=registry
        )
        self.decode_seconds = Histogram(
            PREFIX + "decode_seconds", "Time to decode and check a batch.", buckets=LATENCY_S, registry=registry
        )
        self.write_seconds = Histogram(
            PREFIX + "write_seconds", "Time of one sink transaction.", buckets=LATENCY_S, registry=registry
        )
        self.fold_seconds = Histogram(
            PREFIX + "fold_seconds",
            "Time to add a batch's calls up to totals, within its transaction.",
            buckets=LATENCY_S,
            registry=registry,
        )
        self.counted_delay_seconds = Distribution(
            PREFIX + "counted_delay_seconds",
            "From a record's ingest to its commit; all records of a batch's partition count like its oldest.",
            DELAY_S,
            registry,
        )
        self.lag_records = ByPartition(
            PREFIX + "lag_records", "Offsets of the log that are not counted yet.", registry=registry
        )
        self.lag_seconds = ByPartition(
            PREFIX + "lag_seconds", "Age of the oldest record that is not counted yet; 0 if all are.", registry=registry
        )
        self.checkpoint_age_seconds = ByPartition(
            PREFIX + "checkpoint_age_seconds",
            "Since the checkpoint last moved, or was taken by this worker.",
            registry=registry,
        )
        self.log_end_age_seconds = Gauge(
            PREFIX + "log_end_age_seconds",
            "Since the broker last told where the log ends; the lag is as of then.",
            registry=registry,
        )
        self.retention_seconds = Gauge(
            PREFIX + "retention_seconds",
            "How long the topic keeps a record, as it was set when this worker began.",
            registry=registry,
        )
        self.waiting = Gauge(
            PREFIX + "waiting",
            "1 while the sink, the dead-letter topic or the broker does not answer and is tried again; else 0.",
            registry=registry,
        )
        self.unavailable = Counter(
            PREFIX + "unavailable_total",
            "Tries that failed because the sink, the dead-letter topic or the broker did not answer.",
            registry=registry,
        )
        self.breaker_open = Gauge(
            PREFIX + "breaker_open",
            "1 when this worker ends because the breaker of a partition is open (`call-processor resume`); else 0.",
            registry=registry,
        )
        self.protecting_numbers = Gauge(
            PREFIX + "protecting_numbers",
            "1 when this worker ends with exit code 4, because going on could make a number wrong; else 0.",
            registry=registry,
        )
        self.fenced = Counter(
            PREFIX + "fenced_total", "Partitions given up because their row had another owner.", registry=registry
        )
        self.partitions_owned = Gauge(
            PREFIX + "partitions_owned", "Partitions that this worker reads.", registry=registry
        )
        self.rebalances = Counter(
            PREFIX + "rebalances_total", "Assignments and revocations.", ["event"], registry=registry
        )
        for event in ("assigned", "revoked", "lost"):
            self.rebalances.labels(event)
        self.maintenance_age_seconds = Gauge(
            PREFIX + "maintenance_age_seconds",
            "Since `maintain` last ran to its end, by whomever; it runs every hour.",
            registry=registry,
        )
        self.tomorrow_exists = Gauge(
            PREFIX + "tomorrow_exists", "1 if tomorrow's partition of dedupe keys exists, else 0.", registry=registry
        )
        self.maintenance_failures = Counter(
            PREFIX + "maintenance_failures_total", "Runs of `maintain` that did not come to an end.", registry=registry
        )
        self.table_bytes = Gauge(
            PREFIX + "table_bytes", "Disk space of a table with its indexes.", ["table"], registry=registry
        )
        self.table_rows = Gauge(
            PREFIX + "table_rows", "Rows of a table, as PostgreSQL estimates them.", ["table"], registry=registry
        )
        self.schema_version = Gauge(
            PREFIX + "schema_version", "Number of the last file of the schema that was applied.", registry=registry
        )

        for unknown in (
            self.log_end_age_seconds, self.retention_seconds, self.maintenance_age_seconds, self.tomorrow_exists,
            self.schema_version,
        ):  # fmt: skip
            unknown.set(math.nan)  # until somebody has looked; 0 would be a statement

    def committed(self, before: Checkpoint, after: Checkpoint) -> None:
        """Counters follow the committed rows: exact also where the answer to a commit was lost."""
        self.records_read.inc(after.records_read - before.records_read)
        self.calls_counted.inc(after.counted - before.counted)
        self.duplicates.inc(after.duplicates - before.duplicates)
        self.conflicts.inc(after.conflicts - before.conflicts)
        self.skipped.inc(after.skipped - before.skipped)
        self.gap_offsets.inc(after.gap_offsets - before.gap_offsets)
        if after.dead_lettered > before.dead_lettered:
            for reason, count in after.dead_letters.items():
                self.dead_letters.labels(reason).inc(count - before.dead_letters.get(reason, 0))
