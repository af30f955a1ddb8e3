"""What the dashboard of usage shows is what `call-processor usage` says."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, cast

import psycopg
import pytest
from psycopg.rows import dict_row

from processor.calls import USAGE_FIELDS
from tests import dashboards
from tests.produce import Calls
from tests.stack import Installation

pytestmark = pytest.mark.ops
Shown = dict[str, list[dict[str, Any]]]  # by panel, its rows


def test_every_panel_agrees_with_the_command(installation: Installation) -> None:
    Calls(installation, seed=3).produce(400)
    installation.start_worker()
    installation.wait_until_counted()
    usage, outcomes, statuses = (
        json.loads(installation.output("usage", "--json", *option)) for option in ([], ["--outcomes"], ["--statuses"])
    )
    shown = ask(installation.dsn)
    assert len(usage) > 20

    def totals(keys: tuple[str, ...], **numbers: Callable[[dict[str, Any]], int]) -> list[dict[str, Any]]:
        return summed(usage, keys, numbers)

    tokens = {
        "tokens_leaf": lambda row: row["leaf"]["total_tokens"],
        "tokens_posted": lambda row: row["posted"]["total_tokens"],
        "calls": lambda row: row["posted"]["calls"],
    }
    assert same(shown.pop("Usage per project"), totals(("project_id",), **tokens))
    numbers = {f"{f}_{kind}": _number(f, kind) for f in ("calls", *USAGE_FIELDS) for kind in ("leaf", "posted")}
    assert same(shown.pop("Usage per project and model"), totals(("project_id", "model"), **numbers))
    for panel, kind in (("Tokens per project, leaf", "leaf"), ("Tokens per project, as posted", "posted")):
        expected = totals(("hour", "project_id"), tokens=_number("total_tokens", kind))
        assert same(as_series(shown.pop(panel)), renamed(expected, project_id="metric"))
    top = totals(
        ("model",),
        written=lambda row: row["leaf"]["completion_tokens"] + row["leaf"]["output_tokens"],
        read=lambda row: row["leaf"]["prompt_tokens"] + row["leaf"]["input_tokens"],
    )
    found = shown.pop("Top models")
    assert [row["read"] for row in found] == sorted((row["read"] for row in top), reverse=True)[:10]
    assert all(row in top for row in plain(found))

    calls = {"calls": _number("calls", "posted")}
    by_outcome = summed(outcomes, ("hour", "outcome"), calls)
    assert same(as_series(shown.pop("Calls by outcome")), renamed(by_outcome, outcome="metric"))
    by_status = summed(statuses, ("hour", "status"), {"count": _number("count", "posted")})
    assert same(as_series(shown.pop("Status counts")), renamed(by_status, status="metric"))
    assert_error_rates(shown.pop("Error rate"), outcomes)
    assert_shares(shown.pop("Can I bill by leaf?"), installation)
    assert shown == {}, "a panel that nobody compares"


def assert_error_rates(found: list[dict[str, Any]], outcomes: list[dict[str, Any]]) -> None:
    all_calls = summed(outcomes, ("project_id",), {"calls": _number("calls", "posted")})
    failed = summed(
        [r for r in outcomes if r["outcome"] == "error"], ("project_id",), {"n": _number("calls", "posted")}
    )
    errors = {row["project_id"]: row["n"] for row in failed}
    expected = [
        {**row, "error_rate": round(Decimal(errors.get(row["project_id"], 0)) / row["calls"], 3)} for row in all_calls
    ]
    assert [(r["project_id"], r["calls"]) for r in sorted(found, key=str)] != []
    assert {r["project_id"]: (r["calls"], r["error_rate"]) for r in found} == {
        r["project_id"]: (r["calls"], r["error_rate"]) for r in expected
    }


def assert_shares(found: list[dict[str, Any]], installation: Installation) -> None:
    """From the tables, by kind of call."""
    rows = installation.rows(
        "SELECT project_id, model, call_kind, sum(prompt_tokens + input_tokens + completion_tokens + output_tokens)"
        " FROM usage_totals GROUP BY 1, 2, 3"
    )
    tokens: defaultdict[tuple[str, str], defaultdict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for project, model, kind, count in rows:
        tokens[project, model][kind] += count
    assert {(row["project_id"], row["model"]) for row in found} == tokens.keys()
    for row in found:
        kinds = tokens[row["project_id"], row["model"]]
        whole = sum(kinds.values())
        for share, kind in (("rollup_share", "rollup"), ("unstated_share", "unstated")):
            assert row[share] == (pytest.approx(kinds[kind] / whole) if whole else None)


def ask(dsn: str) -> Shown:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        connection.execute("SET timezone = 'UTC'")
        return {query.panel: connection.execute(query.sql.encode()).fetchall() for query in dashboards.sql()}


def summed(
    rows: Iterable[dict[str, Any]], keys: tuple[str, ...], numbers: dict[str, Callable[[dict[str, Any]], int]]
) -> list[dict[str, Any]]:
    sums: defaultdict[tuple[str, ...], defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        for name, number in numbers.items():
            sums[tuple(row[key] for key in keys)][name] += number(row)
    return [{**dict(zip(keys, key, strict=True)), **found} for key, found in sums.items()]


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """In any order."""

    def order(rows: list[dict[str, Any]]) -> list[list[tuple[str, Any]]]:
        return sorted(sorted(row.items()) for row in plain(rows))

    return order(found) == order(expected)


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: int(v) if isinstance(v, Decimal) else v for name, v in row.items()} for row in rows]


def as_series(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Grafana's columns: `time` and `metric`."""
    return [{"hour": f"{row.pop('time'):%Y-%m-%dT%H:%M:%SZ}", **row} for row in rows]


def renamed(rows: list[dict[str, Any]], **names: str) -> list[dict[str, Any]]:
    return [{names.get(name, name): value for name, value in row.items()} for row in rows]


def _number(name: str, kind: str) -> Callable[[dict[str, Any]], int]:
    return lambda row: cast("int", row[kind][name])
