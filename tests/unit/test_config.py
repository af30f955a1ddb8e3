"""Settings: all that is wrong is said at once, by the operator's names, without a value."""

from pathlib import Path

import pytest

from processor import config
from processor.errors import ExitCode, Stop


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no `.env`


def refusal(monkeypatch: pytest.MonkeyPatch, **settings: str) -> str:
    for name, value in settings.items():
        monkeypatch.setenv(f"CALL_PROCESSOR_{name}", value)
    with pytest.raises(Stop) as stopped:
        config.load()
    assert stopped.value.exit_code is ExitCode.USAGE
    return str(stopped.value)


def test_all_that_is_wrong_is_said_at_once_by_its_name_and_without_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(
        monkeypatch,
        INGEST__LISTEN="hunter2",
        WORKER__BATCH_MAX_RECORDS="hunter2",
        LOG__FORMAT="hunter2",
        POSTGRES__DSN="postgresql://a:hunter2@b/c",
        POSTGRES__DSN_FILE="hunter2",
    )
    names = [line.partition(":")[0].strip() for line in said.splitlines()[1:]]
    assert names == [
        f"CALL_PROCESSOR_{name}" for name in ("POSTGRES", "INGEST__LISTEN", "WORKER__BATCH_MAX_RECORDS", "LOG__FORMAT")
    ]
    assert "DSN and DSN_FILE are both set" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        # a frozen owner's transaction is ended after 5 s: its row must be free when its partition moves on
        ({"WORKER__SESSION_TIMEOUT_S": "5"}, "WORKER__SESSION_TIMEOUT_S: must be greater than 5"),
        # the client demands that a turn of the loop may take longer
        ({"WORKER__SESSION_TIMEOUT_S": "181"}, "WORKER__SESSION_TIMEOUT_S: must be at most 180"),
        # the SDK gives up after 30 s
        ({"INGEST__ACK_TIMEOUT_S": "29"}, "INGEST__ACK_TIMEOUT_S: must be at most 28"),
        ({"INGEST__ACK_TIMEOUT_S": "1"}, "INGEST__ACK_TIMEOUT_S: must be at least 2"),
        # a record would be given up before it is sent
        ({"INGEST__ACK_TIMEOUT_S": "2", "INGEST__LINGER_MS": "1000"}, "LINGER_MS must be less than ACK_TIMEOUT_S"),
    ],
)
def test_timeouts_that_contradict_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], sentence: str
) -> None:
    assert sentence in refusal(monkeypatch, **settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"INGEST__KEYS_FILE": "k", "INGEST__AUTH_DISABLED": "true"}, "KEYS_FILE is set and AUTH_DISABLED is true"),
        ({"INGEST__MAX_BODY_BYTES": "1000000", "INGEST__MAX_IN_FLIGHT_BYTES": "3999999"}, "at least four times MAX_BO"),
    ],
)
def test_settings_of_the_door_that_contradict_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], sentence: str
) -> None:
    assert sentence in refusal(monkeypatch, **settings)


def test_what_has_our_prefix_and_is_no_setting_is_refused_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("CALL_PROCESSOR_INGST__LISTEN=127.0.0.1:1\nOTHER=1\n")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "CALL_PROCESSOR_POSTGRES_DSN_FILE").write_text("hunter2")
    said = refusal(
        monkeypatch,
        POSTGRES_DSN="hunter2",
        INGEST_LISTEN="hunter2",
        INGEST__FOO="hunter2",
        FOO="hunter2",
        SECRETS_DIR=str(tmp_path / "secrets"),
    )
    assert said.splitlines()[1:] == [
        "  CALL_PROCESSOR_FOO: there is no such setting; the README names all",
        "  CALL_PROCESSOR_INGEST_LISTEN: there is no such setting; did you mean CALL_PROCESSOR_INGEST__LISTEN?",
        "  CALL_PROCESSOR_INGEST__FOO: there is no such setting; the README names all",
        "  CALL_PROCESSOR_INGST__LISTEN: there is no such setting; did you mean CALL_PROCESSOR_INGEST__LISTEN?",
        "  CALL_PROCESSOR_POSTGRES_DSN: there is no such setting; did you mean CALL_PROCESSOR_POSTGRES__DSN?",
        "  CALL_PROCESSOR_POSTGRES_DSN_FILE: there is no such setting; did you mean CALL_PROCESSOR_POSTGRES__DSN_FILE?",
    ]


def test_what_kubernetes_puts_into_a_pod_for_services_whose_names_begin_as_ours_do_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "INGEST_SERVICE_HOST": "10.0.0.1",
        "INGEST_SERVICE_PORT": "8080",
        "INGEST_SERVICE_PORT_HTTP": "8080",
        "INGEST_PORT": "tcp://10.0.0.1:8080",
        "INGEST_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "INGEST_PORT_8080_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(f"CALL_PROCESSOR_{name}", value)
    config.load()
    assert "CALL_PROCESSOR_INGEST_PORT: there is no such setting" in refusal(monkeypatch, INGEST_PORT="8080")


def test_what_is_wrong_is_said_in_words_for_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(
        monkeypatch,
        KAFKA__TOPIC="t" * 250,
        INGEST__AUTH_DISABLED="hunter2",
        WORKER__BATCH_MAX_RECORDS="1000001",
        WORKER__BREAKER_SHARE="hunter2",
        LOG__FORMAT="hunter2",
    )
    assert [line.partition(": ")[2] for line in said.splitlines()[1:]] == [
        "must have at most 249 characters", "must be true or false", "must be at most 1000000", "must be a number",
        "must be 'json' or 'console'",
    ]  # fmt: skip


def test_what_is_missing_is_said_with_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config.load()
    with pytest.raises(Stop, match="CALL_PROCESSOR_KAFKA__BOOTSTRAP_SERVERS is not set: give it host:port"):
        settings.bootstrap_servers()
    with pytest.raises(Stop, match="CALL_PROCESSOR_POSTGRES__DSN or POSTGRES__DSN_FILE is not set"):
        settings.dsn()


def test_whoever_runs_up_or_the_demo_is_told_of_the_file_that_leads_there(tmp_path: Path) -> None:
    (tmp_path / ".call-processor").mkdir()
    (tmp_path / ".call-processor" / "env").touch()
    with pytest.raises(Stop, match=r"run `\. \.call-processor/env` first"):
        config.load().dsn()


def test_an_empty_value_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As templates write it; an empty DSN would lead to whatever database runs on this machine."""
    (tmp_path / "dsn").write_text("postgresql://a")
    monkeypatch.setenv("CALL_PROCESSOR_POSTGRES__DSN", "")
    monkeypatch.setenv("CALL_PROCESSOR_WORKER__BREAKER_RUN", "")
    monkeypatch.setenv("CALL_PROCESSOR_POSTGRES__DSN_FILE", str(tmp_path / "dsn"))
    settings = config.load()
    assert (settings.dsn(), settings.worker.breaker_run) == ("postgresql://a", 1000)


def test_a_secret_in_a_file_is_read_at_every_connection_and_a_file_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "dsn"
    monkeypatch.setenv("CALL_PROCESSOR_POSTGRES__DSN_FILE", str(file))
    settings = config.load()
    with pytest.raises(Stop, match="POSTGRES__DSN_FILE cannot be read") as stopped:
        settings.dsn()
    assert stopped.value.exit_code is ExitCode.USAGE
    for dsn in ("postgresql://first", "postgresql://second"):
        file.write_text(f"{dsn}\n")
        assert settings.dsn() == dsn


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALL_PROCESSOR_POSTGRES__DSN", "postgresql://a:hunter2@b/c")
    settings = config.load()
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump_json()}"
