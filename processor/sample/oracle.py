"""What must be stored in the end, told from the accepted requests alone.

Written a second time on purpose, with plain dicts over parsed JSON: it shares no line with the code that it judges.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from processor.calls import USAGE_FIELDS

Key = tuple[str, datetime, str, str]  # project_id, hour, model | status | outcome, call_kind
Rows = dict[Key, tuple[int, ...]]  # (calls, the eight counts) in usage_totals, one number in the others
Tables = dict[str, Rows]

TABLES = ("usage_totals", "status_totals", "outcome_totals")


@dataclass(slots=True)
class Expected:
    """`conflicts` are among the `duplicates`. Both are least numbers: a request tried twice may add to them."""

    tables: Tables = field(default_factory=lambda: {name: {} for name in TABLES})
    calls: int = 0
    duplicates: int = 0
    conflicts: int = 0


def expect(accepted: Iterable[dict[str, Any]]) -> Expected:
    """The totals of these `end` objects, in the order in which they were acknowledged: the first of a call wins."""
    expected = Expected()
    first: dict[tuple[str, str], Tables] = {}
    for end in accepted:
        adds = adds_of(end)
        call = (end["project_id"], end["id"])
        if call not in first:
            first[call] = adds
            expected.calls += 1
            expected.tables = added(expected.tables, adds)
        else:
            expected.duplicates += 1
            expected.conflicts += adds != first[call]
    return expected


def added(tables: Tables, more: Tables) -> Tables:
    """`tables` with `more` added to it, row by row. Changes `tables`."""
    for name, rows in more.items():
        for key, numbers in rows.items():
            had = tables[name].get(key, (0,) * len(numbers))
            tables[name][key] = tuple(a + b for a, b in zip(had, numbers, strict=True))
    return tables


def adds_of(end: dict[str, Any]) -> Tables:
    """The rows that one call makes when it is counted."""
    summary = end["summary"]
    statuses = {status: int(count) for status, count in (summary.get("status_counts") or {}).items()}
    stated = sum(statuses.values())
    kind = "leaf" if stated == 1 else "rollup" if stated >= 2 else "unstated"
    project_id, hour = end["project_id"], _hour(end["ended_at"])
    if end.get("exception") is not None:
        outcome = "error"
    else:
        outcome = "descendant_error" if statuses.get("error", 0) > 0 else "success"
    return {
        "usage_totals": {
            (project_id, hour, model, kind): (1, *(int(counts.get(name) or 0) for name in USAGE_FIELDS))
            for model, counts in summary.get("usage", {}).items()
        },
        "status_totals": {(project_id, hour, status, kind): (count,) for status, count in statuses.items()},
        "outcome_totals": {(project_id, hour, outcome, kind): (1,)},
    }


def _hour(ended_at: str | int) -> datetime:
    """The hour of one of the spellings that the sample uses; a time without a zone is UTC."""
    if isinstance(ended_at, int):
        at = datetime.fromtimestamp(ended_at / 1000 if ended_at > 2e10 else ended_at, UTC)
    else:
        at = datetime.fromisoformat(ended_at)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return at.replace(minute=0, second=0, microsecond=0)
