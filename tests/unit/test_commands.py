"""What commands say of arguments that cannot be meant, before any server is asked."""

import json

import pytest
from typer.testing import CliRunner

from processor import __version__
from processor.cli.main import build
from processor.cli.topics import _as_it_is
from processor.errors import ExitCode, Stop
from processor.kafka.topics import MIB, TopicSpec


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (
            "dead-letters list --reason nope",
            "undecodable, unknown_schema, invalid, outside_horizon, too_large",
        ),
        ("dead-letters replay --reason nope", "--reason nope is no reason of a dead letter"),
        ("dead-letters show abc", "abc names no dead letter: write partition/offset, for example 0/17"),
        ("verify --project acme", "--project acme is no project: write the whole of its name, entity/project"),
        ("usage --project /chat", "--project /chat is no project"),
    ],
)
def test_an_argument_that_cannot_be_meant_is_refused_with_its_form(command: str, sentence: str) -> None:
    ended = CliRunner().invoke(build(command.split()), command.split())
    assert isinstance(ended.exception, Stop)
    assert ended.exception.exit_code is ExitCode.USAGE
    assert sentence in str(ended.exception)


def test_the_version_is_shown() -> None:
    ended = CliRunner().invoke(build(["--version"]), ["--version"])
    assert (ended.exit_code, ended.output) == (0, f"call-processor {__version__}\n")


def test_a_topic_that_exists_is_described_with_what_it_has() -> None:
    spec = TopicSpec("calls", 24, 1, 7, MIB)
    assert _as_it_is(12, spec) == "exists with 12 partitions, not 24: left as it is"
    assert _as_it_is(24, spec) == "exists with 24 partitions: left as it is"
    assert _as_it_is(1, TopicSpec("letters", 1, 1, 7, MIB)) == "exists with 1 partition: left as it is"


def test_the_configuration_shows_where_the_database_is_and_no_password() -> None:
    given = {"POSTGRES__DSN": "host=h password=hunter2", "INGEST__ACK_TIMEOUT_S": "8.0"}
    settings = {f"CALL_PROCESSOR_{name}": value for name, value in given.items()}
    shown = CliRunner().invoke(build(["config"]), ["config"], env=settings).output.splitlines()
    assert "CALL_PROCESSOR_POSTGRES__DSN=password=********** host=h" in shown
    assert {"CALL_PROCESSOR_INGEST__ACK_TIMEOUT_S=8", "CALL_PROCESSOR_INGEST__KEEP_OUTPUT=true"} <= {*shown}
    as_json = json.loads(CliRunner().invoke(build(["config"]), ["config", "--json"], env=settings).output)
    assert as_json["postgres"]["dsn"] == "password=********** host=h"
