"""What is logged, as which text, and what never is."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from processor.config import Log
from processor.logs import configure


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == "", "stdout belongs to what a command prints"
    return [json.loads(line) for line in captured.err.splitlines()]


def test_an_event_is_one_line_of_json_with_time_level_role_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Log(), "worker")
    structlog.get_logger("processor.worker").info("batch written", records=5)
    [event] = events(capsys)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "role": "worker", "event": "batch written", "records": 5, "level": "info", "logger": "processor.worker",
    }  # fmt: skip


def test_what_other_libraries_log_has_the_same_shape(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Log(), "ingest")
    logging.getLogger("librdkafka").warning("broker %s", "away", extra={"broker": 1})
    [event] = events(capsys)
    assert (event["event"], event["logger"], event["broker"], event["role"]) == (
        "broker away",
        "librdkafka",
        1,
        "ingest",
    )


@pytest.mark.parametrize(("level", "kept"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_holds_for_all(capsys: pytest.CaptureFixture[str], level: Any, kept: int) -> None:
    configure(Log(level=level), "ingest")
    for log in (structlog.get_logger("ours"), logging.getLogger("theirs")):
        for severity in ("debug", "info", "warning", "error"):
            getattr(log, severity)("said")
    assert len(events(capsys)) == 2 * kept


def test_uvicorn_says_nothing_about_each_broken_request(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Log(), "ingest")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    logging.getLogger("uvicorn.access").info("GET /")
    assert events(capsys) == []


def test_a_traceback_has_no_values_of_variables(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Log(), "ingest")
    password = "hunter2"
    try:
        int(len(password) / 0)
    except ZeroDivisionError:
        structlog.get_logger().exception("failed")
        logging.getLogger("theirs").exception("failed")
    ours, theirs = events(capsys)
    assert ours["exception"][0]["exc_type"] == theirs["exception"][0]["exc_type"] == "ZeroDivisionError"
    assert "hunter2" not in json.dumps([ours, theirs])


def test_people_get_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Log(format="console"), "ingest")
    structlog.get_logger("ours").info("the door is open", listen="127.0.0.1:8080")
    text = capsys.readouterr().err
    assert "the door is open" in text
    assert "listen=127.0.0.1:8080" in text


def test_configuring_twice_does_not_log_twice(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Log(), "ingest")
    configure(Log(), "ingest")
    structlog.get_logger().info("once")
    assert len(events(capsys)) == 1
