"""Baselines: all totals and offsets of one snapshot, from which the log is counted again.

A row of totals as of a baseline is its newest version that is not behind the baseline.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from processor.calls import USAGE_FIELDS
from processor.ledger import Place
from processor.sinks.postgres.connection import Connection
from processor.sinks.postgres.key_days import Bounds

# By table: what its rows are named after, and its numbers.
TOTALS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "outcome_totals": ("outcome", ("calls",)),
    "status_totals": ("status", ("count",)),
    "usage_totals": ("model", ("calls", *USAGE_FIELDS)),
}
EVERY: Final = dt.timedelta(hours=23)

# `updated_at` is when a transaction began: a day is far more than one may last, or a clock be turned back.
_MARGIN: Final = dt.timedelta(days=1)

_OFFSETS: Final = """
INSERT INTO baseline_offsets (baseline, cluster_id, topic_id, partition, decided_to, first_offset, next_offset, counted,
                              uncounted, skipped)
SELECT %s, cluster_id, topic_id, partition, decided_to, first_offset, next_offset, counted,
       duplicates + dead_lettered, skipped
FROM checkpoints JOIN decided USING (cluster_id, topic_id, partition)"""

# Versions that the oldest baseline left has a newer one of.
_SUPERSEDED: Final = """
DELETE FROM baseline_totals AS old USING baseline_totals AS newer
WHERE old.baseline < newer.baseline AND newer.baseline <= (SELECT min(number) FROM baselines)
  AND (old.totals, old.project_id, old.hour, old.name, old.call_kind)
    = (newer.totals, newer.project_id, newer.hour, newer.name, newer.call_kind)"""


@dataclass(frozen=True, slots=True)
class Baseline:
    number: int
    taken_at: dt.datetime
    decided_to: dict[Place, int]


def baselines(connection: Connection) -> list[Baseline]:
    """Oldest first."""
    rows = connection.execute("SELECT number, taken_at FROM baselines ORDER BY 1").fetchall()
    found = [Baseline(number, taken_at, {}) for number, taken_at in rows]
    by_number = {baseline.number: baseline for baseline in found}
    for number, cluster_id, topic_id, partition, offset in connection.execute(
        "SELECT baseline, cluster_id, topic_id, partition, decided_to FROM baseline_offsets"
    ).fetchall():
        if number in by_number:
            by_number[number].decided_to[cluster_id, topic_id, partition] = offset
    return found


def can_be_taken(connection: Connection) -> bool:
    """Not while a partition is read again whose checkpoint was set back: its calls are not decided."""
    row = connection.execute(
        "SELECT FROM checkpoints JOIN decided USING (cluster_id, topic_id, partition) WHERE next_offset < decided_to"
    ).fetchone()
    return row is None


def take(connection: Connection) -> int:
    """One of now; its number. Writers are not held up: it reads one snapshot."""
    before = max(baselines(connection), key=lambda baseline: baseline.number, default=None)
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    try:
        with connection.transaction():
            ((number,),) = connection.execute(
                "INSERT INTO baselines (number) SELECT coalesce(max(number), 0) + 1 FROM baselines RETURNING number"
            ).fetchall()
            connection.execute(_OFFSETS, (number,))
            since = None if before is None else before.taken_at - _MARGIN
            for table, (name, numbers) in TOTALS.items():
                connection.execute(_versions(table, name, numbers), {"number": number, "since": since})
    finally:
        connection.isolation_level = None
    return int(number)


def _versions(table: str, name: str, numbers: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(
        "INSERT INTO baseline_totals (totals, project_id, hour, name, call_kind, baseline, numbers)"
        " SELECT {literal}, project_id, hour, {name}, call_kind, %(number)s, ARRAY[{numbers}] FROM {table}"
        " WHERE updated_at >= coalesce(%(since)s, '-infinity'::timestamptz)"
    ).format(
        literal=sql.Literal(table),
        table=sql.Identifier(table),
        name=sql.Identifier(name),
        numbers=sql.SQL(", ").join(map(sql.Identifier, numbers)),
    )


def forget_useless(connection: Connection, bounds: Bounds) -> int:
    """Remove those from which the log can no longer be read, but never the newest. How many."""
    old = [
        baseline.number
        for baseline in baselines(connection)[:-1]
        if any(place in bounds and offset < bounds[place][0] for place, offset in baseline.decided_to.items())
    ]
    if old:
        with connection.transaction():
            connection.execute("DELETE FROM baselines WHERE number = ANY(%s)", (old,))
            connection.execute("DELETE FROM baseline_offsets WHERE baseline = ANY(%s)", (old,))
            connection.execute(_SUPERSEDED)
    return len(old)


def forget_all(connection: Connection) -> None:
    """Totals are no longer what they grew from."""
    _forget_from(connection, 0)


def forget_beyond(connection: Connection, place: Place, offset: int) -> None:
    """Those that were taken when the partition was decided further than to this offset, from which it is read again: a
    call that is counted then only (a fixed defect) is missing in them."""
    kept = [one.number for one in baselines(connection) if one.decided_to.get(place, offset) <= offset]
    _forget_from(connection, kept[-1] + 1 if kept else 0)


def _forget_from(connection: Connection, number: int) -> None:
    for table, column in (("baselines", "number"), ("baseline_offsets", "baseline"), ("baseline_totals", "baseline")):
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE {} >= %s").format(sql.Identifier(table), sql.Identifier(column)), (number,)
        )
