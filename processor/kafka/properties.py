"""KAFKA__PROPERTIES_FILE: any librdkafka property, for the connection (TLS, SASL) and for tuning, save those that
would break a promise.

The same file serves the producers and the consumers of one installation: a property of the other kind is ignored.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import confluent_kafka

from processor.config import PREFIX, Kafka
from processor.errors import ExitCode, Stop

_ACKNOWLEDGED = "a 200 means that every in-sync replica has the record"
_ORDER = "a project's records keep their order, and a retry inside the client is not written twice"
_DEADLINE = f"it follows from {PREFIX}INGEST__ACK_TIMEOUT_S: a record must not be given up later than its answer"
_REPORTS = "every delivery report is needed: without one an accepted call would be answered 503"
_PLACEMENT = "all clients must agree on a project's partition, Java clients included"
_OFFSETS = "offsets are committed with the totals, in PostgreSQL; the client must not move them"
_START = "where reading starts is kept with the totals; a reset would skip or repeat records in silence"
_VERSIONS = "older protocol versions have no headers, timestamps or idempotence"
_CODE = "it is code, which a file cannot hold"
_ONE_FILE = "one file serves all processes, this must differ between them"
_TRANSACTIONS = "records of a transaction that nobody commits are never read"


def _same(reason: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, reason)


def _setting(setting: str, *names: str) -> dict[str, str]:
    return _same(f"set {PREFIX}{setting} instead", *names)


# Aliases are listed beside their property: librdkafka takes either, and the last one wins.
REFUSED: Final[Mapping[str, str]] = {
    **_setting("KAFKA__BOOTSTRAP_SERVERS", "bootstrap.servers", "metadata.broker.list"),
    **_setting("KAFKA__GROUP", "group.id"),
    **_setting("INGEST__LINGER_MS", "linger.ms", "queue.buffering.max.ms"),
    **_setting("INGEST__MAX_RECORD_BYTES", "message.max.bytes"),
    **_setting("WORKER__SESSION_TIMEOUT_S", "session.timeout.ms", "heartbeat.interval.ms"),
    **_same(_ACKNOWLEDGED, "acks", "request.required.acks"),
    **_same(_ORDER, "enable.idempotence", "max.in.flight", "max.in.flight.requests.per.connection", "queuing.strategy"),
    **_same(_ORDER, "retries", "message.send.max.retries"),
    **_same(_DEADLINE, "message.timeout.ms", "delivery.timeout.ms"),
    **_same(_REPORTS, "delivery.report.only.error", "enabled_events"),
    **_same("one late record would end the producer for all others", "enable.gapless.guarantee"),
    **_same(_PLACEMENT, "partitioner"),
    **_same(_TRANSACTIONS, "transactional.id", "transaction.timeout.ms"),
    **_same("a mistyped topic would be created with the broker's defaults", "allow.auto.create.topics"),
    **_same("the topic would look absent", "topic.blacklist"),
    **_same(_OFFSETS, "enable.auto.commit", "auto.commit.enable", "auto.commit.interval.ms"),
    **_same(_OFFSETS, "enable.auto.offset.store", "offset.store.method", "offset.store.path"),
    **_same(_OFFSETS, "offset.store.sync.interval.ms"),
    **_same(_START, "auto.offset.reset"),
    **_same("records of an aborted transaction would be counted", "isolation.level"),
    **_same("the worker decides whether it hears of a partition's end", "enable.partition.eof"),
    **_same("the worker takes partitions one by one; `group.protocol=consumer` is the other way",
            "partition.assignment.strategy"),
    **_same(_ONE_FILE, "group.instance.id"),
    **_same(_VERSIONS, "api.version.request", "api.version.fallback.ms", "broker.version.fallback"),
    **_same(_CODE, "background_event_cb", "closesocket_cb", "connect_cb", "consume_cb", "default.topic.config"),
    **_same(_CODE, "default_topic_conf", "dr_cb", "dr_msg_cb", "error_cb", "interceptors", "log_cb", "logger"),
    **_same(_CODE, "msg_order_cmp", "oauth_cb", "oauthbearer_token_refresh_cb", "offset_commit_cb", "on_commit"),
    **_same(_CODE, "on_delivery", "opaque", "open_cb", "partitioner_cb", "rebalance_cb", "resolve_cb", "socket_cb"),
    **_same(_CODE, "ssl.certificate.verify_cb", "ssl_ca", "ssl_certificate", "ssl_engine_callback_data", "ssl_key"),
    **_same(_CODE, "stats_cb", "throttle_cb"),
}  # fmt: skip


def connection_properties(kafka: Kafka, bootstrap_servers: str) -> dict[str, str]:
    """The base of every Kafka client's configuration; what a role promises is laid over it.

    Raises `Stop` that names every property of the file that is refused or unknown, never its value.
    """
    properties = {} if kafka.properties_file is None else _read(kafka.properties_file)
    return {**properties, "bootstrap.servers": bootstrap_servers}


def refused(error: confluent_kafka.KafkaException) -> Stop:
    """What to raise when librdkafka refuses a client's configuration as a whole (a missing CA file, for example)."""
    return Stop(ExitCode.USAGE, f"the Kafka client refuses its configuration: {error.args[0].str().strip()}")


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise Stop(ExitCode.USAGE, f"{PREFIX}KAFKA__PROPERTIES_FILE cannot be read: {why}") from None
    properties: dict[str, str] = {}
    problems = list(_parse(lines, properties))
    problems += list(_fill_in(properties))
    problems += [f"{name}: {why}" for name, value in properties.items() if (why := _problem(name, value))]
    if problems:
        raise Stop(ExitCode.USAGE, f"{PREFIX}KAFKA__PROPERTIES_FILE is refused:\n  " + "\n  ".join(problems))
    return properties


def _parse(lines: list[str], properties: dict[str, str]) -> Iterator[str]:
    """Fills `properties`; yields what is wrong, by line number: a line without a name may be half of a secret."""
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not (name and equals):
            yield f"line {number}: must be name=value"
        elif name in properties:
            yield f"{name}: given twice"
        else:
            properties[name] = value


def _fill_in(properties: dict[str, str]) -> Iterator[str]:
    """A value `${dir:<folder>:<file>}`, as Kafka's DirectoryConfigProvider has it, is what that file holds: a password
    can be a secret of its own."""
    for name, value in properties.items():
        if (reference := _IN_A_FILE.fullmatch(value)) is None:
            continue
        try:
            properties[name] = Path(reference[1], reference[2]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8"
            yield f"{name}: the file that it names cannot be read: {why}"


def _problem(name: str, value: str) -> str | None:
    if name in REFUSED:
        return f"not yours to set: {REFUSED[name]}"
    if name == "max.poll.interval.ms" and value.isdecimal() and int(value) < LEAST_POLL_INTERVAL_MS:
        return f"must be {LEAST_POLL_INTERVAL_MS} at least: three times as long as a worker's turn may take"
    return _librdkafka_says(name, value)


_IN_A_FILE: Final = re.compile(r"\$\{dir:([^:{}]+):([^:{}/]+)\}")
LEAST_POLL_INTERVAL_MS: Final = 180_000
_END = "call-processor.no-such-property"


def _librdkafka_says(name: str, value: str) -> str | None:
    """librdkafka judges properties one after the other, before it builds a client: the second one never lets it."""
    try:
        confluent_kafka.Producer({name: value, _END: ""})
    except confluent_kafka.KafkaException as error:
        text: str = error.args[0].str().strip()
        return None if _END in text else text.replace(f'"{value}"', "given")
    return None
