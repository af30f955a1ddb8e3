"""The names that documents, dashboards and users rely on. Who changes one here changes an interface: say so in
CHANGELOG.md. CONTRIBUTING.md sends here whoever adds a setting, a metric or a command.
"""

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from processor.cli.main import COMMANDS
from processor.config import Settings
from processor.metrics import PREFIX
from tests import metrics_page

ROOT = Path(__file__).parents[2]

SETTINGS: dict[str, Any] = {
    "KAFKA__BOOTSTRAP_SERVERS": None,
    "KAFKA__TOPIC": "llm-call-end",
    "KAFKA__DEAD_LETTER_TOPIC": None,  # <topic>.dlq
    "KAFKA__GROUP": "call-processor",
    "KAFKA__PROPERTIES_FILE": None,
    "POSTGRES__DSN": None,
    "POSTGRES__DSN_FILE": None,
    "INGEST__LISTEN": "127.0.0.1:8080",
    "INGEST__KEYS_FILE": None,  # loopback only
    "INGEST__TLS_CERT_FILE": None,
    "INGEST__TLS_KEY_FILE": None,
    "INGEST__AUTH_DISABLED": False,
    "INGEST__KEY_REQUESTS_PER_S": 0,
    "INGEST__ACK_TIMEOUT_S": 9,
    "INGEST__MAX_BODY_BYTES": 8 * 2**20,
    "INGEST__MAX_RECORD_BYTES": 8 * 2**20,
    "INGEST__MAX_IN_FLIGHT_BYTES": 256 * 2**20,
    "INGEST__MAX_IN_FLIGHT_REQUESTS": 10_000,
    "INGEST__LINGER_MS": 1,
    "INGEST__KEEP_OUTPUT": True,
    "INGEST__SHUTDOWN_WAIT_S": 0,
    "ADMIN__LISTEN": "127.0.0.1:9464",
    "WORKER__BATCH_MAX_RECORDS": 20_000,
    "WORKER__BATCH_MAX_AGE_S": 0.25,
    "WORKER__DEDUPE_HORIZON_DAYS": 35,
    "WORKER__SESSION_TIMEOUT_S": 10,
    "WORKER__BREAKER_RUN": 1000,
    "WORKER__BREAKER_SHARE": 0.5,
    "LOG__FORMAT": "json",
    "LOG__LEVEL": "info",
}

METRICS = {
    # both roles
    "build_info": ("role", "version", "python", "librdkafka"),
    "start_time_seconds": (),
    "loop_turn_age_seconds": (),
    "kafka_brokers_connected": (),
    "kafka_round_trip_seconds": (),
    "kafka_disconnects_total": (),
    "kafka_request_timeouts_total": (),
    # ingest
    "requests_total": ("status", "reason"),
    "request_seconds": (),
    "ack_seconds": (),
    "body_bytes": (),
    "record_bytes": (),
    "in_flight_bytes": (),
    "in_flight_limit_bytes": (),
    "in_flight_requests": (),
    "in_flight_limit_requests": (),
    "producer_queue_records": (),
    "producer_queue_limit_records": (),
    "producer_errors_total": ("kind",),
    "keys": (),
    "key_file_broken": (),
    "negative_counts_total": (),
    "broker_away": (),
    # worker
    "records_read_total": (),
    "calls_counted_total": (),
    "duplicates_total": (),
    "conflicts_total": (),
    "dead_letters_total": ("reason",),
    "skipped_total": (),
    "gap_offsets_total": (),
    "unaccounted_records": (),
    "native_failures_total": (),
    "batch_records": (),
    "decode_seconds": (),
    "write_seconds": (),
    "fold_seconds": (),
    "counted_delay_seconds": (),
    "lag_records": ("partition",),
    "lag_seconds": ("partition",),
    "checkpoint_age_seconds": ("partition",),
    "log_end_age_seconds": (),
    "retention_seconds": (),
    "waiting": (),
    "unavailable_total": (),
    "breaker_open": (),
    "protecting_numbers": (),
    "fenced_total": (),
    "partitions_owned": (),
    "rebalances_total": ("event",),
    "maintenance_age_seconds": (),
    "tomorrow_exists": (),
    "maintenance_failures_total": (),
    "table_bytes": ("table",),
    "table_rows": ("table",),
    "schema_version": (),
}

PROMISED_COMMANDS = (
    "up", "demo", "ingest", "worker", "topics", "migrate", "usage", "status", "verify", "rebuild", "maintain",
    "checkpoints", "resume", "dead-letters", "keys", "config",
)  # fmt: skip


def settings() -> dict[str, Any]:
    """Every field of every section, by the name that an operator types (without the prefix)."""
    sections: dict[str, BaseModel] = dict(Settings.model_construct())
    return {
        f"{section}__{name}".upper(): field
        for section, model in sections.items()
        for name, field in type(model).model_fields.items()
    }


def test_settings_have_these_names_and_defaults() -> None:
    assert {name: field.default for name, field in settings().items()} == SETTINGS


def test_every_setting_says_what_it_is() -> None:
    assert not [name for name, field in settings().items() if not field.description]


def test_metrics_have_these_names_and_labels() -> None:
    declared = [*metrics_page.of_process(), *metrics_page.of_ingest(), *metrics_page.of_worker()]
    assert {metric.name: metric.labels for metric in declared} == {
        PREFIX + name: labels for name, labels in METRICS.items()
    }
    assert not [metric.name for metric in declared if not metric.help.endswith(".")]


def test_the_page_of_metrics_is_made_of_their_declarations() -> None:
    assert metrics_page.PAGE.read_text(encoding="utf-8") == metrics_page.page(), "run `make docs`"


def test_commands_have_these_names_and_say_what_they_do() -> None:
    assert tuple(COMMANDS) == PROMISED_COMMANDS
    for name in COMMANDS:
        assert inspect.getdoc(import_module(f"processor.cli.{name.replace('-', '_')}").run)


def test_every_file_that_has_a_command_is_registered() -> None:
    files = {
        path.stem.replace("_", "-"): path.read_text(encoding="utf-8") for path in (ROOT / "processor/cli").glob("*.py")
    }
    assert {name for name, text in files.items() if re.search(r"^(def run\(|run = )", text, re.MULTILINE)} == {
        *COMMANDS
    }


def test_every_sink_is_among_the_parameters_of_the_contract_suite() -> None:
    suite = (ROOT / "tests/contract/test_sink.py").read_text(encoding="utf-8")
    (parameters,) = re.findall(r"@pytest\.fixture\(params=\[(.*?)\]\)\ndef kept\(", suite)
    sinks = {path.stem for path in (ROOT / "processor/sinks").iterdir()} - {"__init__", "__pycache__", "base"}
    assert set(re.findall(r'"(\w+)"', parameters)) == sinks


def test_the_files_that_contributing_names_are_there() -> None:
    named = re.findall(r"`([\w.]+(?:/[\w.]+)+/?)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    assert not [path for path in named if not (ROOT / path).exists()]
