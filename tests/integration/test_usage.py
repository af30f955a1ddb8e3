"""`usage` and `status` against the tables: every option, and a sentence where there is nothing to show."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from processor.calls import USAGE_FIELDS
from processor.cli.main import build
from processor.deadline import Deadline
from processor.errors import ExitCode, Stop
from processor.sinks.base import LogIdentity, TakeOver
from processor.sinks.postgres.write import PostgresSink
from tests.factories import NOON_US, batch, counted
from tests.stack import Installation

pytestmark = pytest.mark.stack
NOON = datetime.fromtimestamp(NOON_US / 1e6, UTC)
HOUR_US = 3_600_000_000


def output(installation: Installation, *command: str) -> str:
    """What `call-processor <command>` prints; in this process, which spares a start for each of many."""
    ended = CliRunner().invoke(build(command), command, env=installation.environment())
    if ended.exception is not None:
        raise ended.exception
    return ended.output


@pytest.fixture
def filled(installation: Installation) -> Installation:
    """Two projects, two months, leaf and rollup, an error."""
    sink = PostgresSink(lambda: installation.dsn, LogIdentity("c", "t", installation.topic, installation.name))
    sink.take([TakeOver(0, 0)], Deadline.after(10))
    calls = [
        counted("a", usage={"gpt-4o": 10, "claude": 1}),
        counted("b", usage={"gpt-4o": 5}, ended_at_us=NOON_US + HOUR_US),
        counted("c", usage={"gpt-4o": 30}, status_counts=[("success", 3)]),
        counted("d", usage={"": 7}, failed=True, ended_at_us=NOON_US - 40 * 24 * HOUR_US),
        counted("e", project_id="ä/[b]ü[/b]", usage={'m, "n"': 1}),
    ]
    sink.write(batch(*calls), Deadline.after(10))
    sink.close()
    return installation


def rows_of(installation: Installation, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(output(installation, "usage", "--json", *options))
    return found


def test_json_is_the_public_view_row_by_row(filled: Installation) -> None:
    names = ["calls", *USAGE_FIELDS]
    with psycopg.connect(filled.dsn) as connection:
        expected = [
            {
                "project_id": project,
                "hour": f"{hour.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
                "model": model,
                "posted": dict(zip(names, map(int, numbers[:9]), strict=True)),
                "leaf": dict(zip(names, map(int, numbers[9:]), strict=True)),
            }
            for project, hour, model, *numbers in connection.execute(
                "SELECT project_id, hour, model,"
                f" {', '.join(f'{n}_posted' for n in names)}, {', '.join(f'{n}_leaf' for n in names)}"
                " FROM usage_hourly ORDER BY 1, 2, 3"
            )
        ]
    assert rows_of(filled) == expected
    assert len(expected) == 5


@pytest.mark.parametrize(("by", "rows"), [("hour", 5), ("day", 4), ("month", 4), ("total", 4)])
def test_rows_are_summed_by_hour_day_month_or_in_total(filled: Installation, by: str, rows: int) -> None:
    found = rows_of(filled, "--by", by)
    assert len(found) == rows
    assert sum(row["posted"]["total_tokens"] for row in found) == 54
    assert sum(row["leaf"]["total_tokens"] for row in found) == 24
    starts = {row.get(by) for row in found}
    if by == "total":
        assert starts == {None}
    else:
        assert all(datetime.fromisoformat(start or "").tzinfo for start in starts)


def test_project_and_time_narrow_it_down(filled: Installation) -> None:
    assert {row["project_id"] for row in rows_of(filled, "--project", "acme/chat")} == {"acme/chat"}
    assert [row["hour"] for row in rows_of(filled, "--from", (NOON + timedelta(hours=1)).isoformat())] == [
        f"{NOON + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    ]
    assert [row["model"] for row in rows_of(filled, "--to", f"{NOON:%Y-%m-%d}")] == [""]


def test_a_view_alone_has_all_its_numbers(filled: Installation) -> None:
    assert {tuple(row) for row in rows_of(filled, "--view", "leaf")} == {("project_id", "hour", "model", "leaf")}
    assert "completion_tokens" in output(filled, "usage", "--view", "posted")


def test_outcomes_and_statuses(filled: Installation) -> None:
    outcomes = rows_of(filled, "--outcomes", "--by", "total", "--project", "acme/chat")
    assert {row["outcome"]: row["posted"]["calls"] for row in outcomes} == {"success": 3, "error": 1}
    statuses = rows_of(filled, "--statuses", "--by", "total", "--project", "acme/chat")
    assert {row["status"]: (row["posted"]["count"], row["leaf"]["count"]) for row in statuses} == {
        "success": (6, 3),
        "error": (0, 0),
    }


@pytest.mark.parametrize("options", [(), ("--by", "total"), ("--outcomes",), ("--statuses", "--view", "leaf")])
def test_csv_says_what_json_says(filled: Installation, options: tuple[str, ...]) -> None:
    table = list(csv.DictReader(io.StringIO(output(filled, "usage", "--csv", *options))))
    flat = [
        {
            **{key: value for key, value in row.items() if isinstance(value, str)},
            **{f"{n}_{kind}": str(v) for kind in ("posted", "leaf") for n, v in row.get(kind, {}).items()},
        }
        for row in rows_of(filled, *options)
    ]
    assert table == flat


def test_the_table_for_people_shows_names_as_they_are(filled: Installation) -> None:
    shown = output(filled, "usage")
    assert "ä/[b]ü[/b]" in shown
    assert "TOKENS leaf" in shown


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "no calls are counted yet"),
        (("--project", "no/where"), "no calls of project no/where are counted"),
        (("--project", "acme/*"), "are counted (there are no wildcards)"),
        (("--from", "2020-01-01", "--to", "2020-02-01"), "no calls are counted in this time"),
    ],
)
def test_where_there_is_nothing_to_show_a_sentence_says_so(
    installation: Installation, options: tuple[str, ...], sentence: str
) -> None:
    assert sentence in output(installation, "usage", *options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--from", "2026-02-01", "--to", "2026-01-01"), "is not before"),
        (("--from", "yesterday"), "--from yesterday is no time"),
        (("--from", "2026-01-31T08:30Z"), r"totals are kept by the hour, in UTC: write 2026-01-31T08:00Z"),
        (("--to", "2026-01-31T08:00+05:30"), r"write 2026-01-31T02:00Z"),
        (("--json", "--csv"), "^--json and --csv exclude each other"),
        (("--outcomes", "--statuses"), "^--outcomes and --statuses exclude each other"),
        (("--project", "acme"), "entity/project, for example acme/chat; there are no wildcards"),
    ],
)
def test_a_wrong_question_is_refused(installation: Installation, options: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(Stop, match=sentence) as stopped:
        output(installation, "usage", *options)
    assert stopped.value.exit_code is ExitCode.USAGE


def test_whoever_could_bill_by_a_total_that_clients_did_not_post_is_told(
    installation: Installation, filled: Installation
) -> None:
    assert "hint" not in output(filled, "usage", "--by", "total")
    with psycopg.connect(installation.dsn) as connection:
        connection.execute("UPDATE usage_totals SET input_tokens = 200, total_tokens = 0 WHERE model = 'claude'")
    shown = output(filled, "usage", "--by", "total")
    assert "hint: in 1 of 4 rows (first acme/chat claude) TOKENS is less than prompt, input" in shown
    json.loads(output(filled, "usage", "--json"))  # for programs there is no hint


def test_status_tells_lag_counters_and_that_nothing_is_unaccounted_for(filled: Installation) -> None:
    told = json.loads(output(filled, "status", "--json"))
    (partition,) = told["partitions"]
    assert (partition["partition"], partition["epoch"], partition["counted"], partition["unaccounted"]) == (0, 1, 5, 0)
    assert partition["lag_records"] == 0
    assert "unaccounted records: 0" in output(filled, "status")


def test_status_before_any_worker_is_a_sentence(installation: Installation) -> None:
    assert "no worker has taken a partition" in output(installation, "status")
