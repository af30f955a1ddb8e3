"""What readers get: the public views, summed over the time that was asked for, and the state of the checkpoints."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from processor.calls import USAGE_FIELDS
from processor.deadline import Deadline
from processor.sinks.postgres.connection import Connection, connect, translated_errors
from processor.sinks.postgres.migrate import check_migrated


class Totals(StrEnum):
    """Which of the three public views."""

    USAGE = "usage"
    OUTCOMES = "outcomes"
    STATUSES = "statuses"


class By(StrEnum):
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


# By kind of totals: the view, what its rows are named after, and the numbers that it has as posted and of leaves.
VIEWS: Final[dict[Totals, tuple[str, str, tuple[str, ...]]]] = {
    Totals.USAGE: ("usage_hourly", "model", ("calls", *USAGE_FIELDS)),
    Totals.OUTCOMES: ("outcomes_hourly", "outcome", ("calls",)),
    Totals.STATUSES: ("statuses_hourly", "status", ("count",)),
}


@dataclass(frozen=True, slots=True)
class Query:
    """`project`: exactly this one; `since` inclusive, `until` exclusive, both aware."""

    totals: Totals = Totals.USAGE
    by: By = By.HOUR
    project: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Row:
    project_id: str
    start: dt.datetime | None  # of the hour, day or month, UTC; None: all time
    name: str  # the model, outcome or status
    posted: dict[str, int]
    leaf: dict[str, int]


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    partition: int
    owner: str | None  # its session with PostgreSQL: address, and the server's own pid for it; None: it is gone
    epoch: int
    next_offset: int
    record_time: dt.datetime | None  # Kafka's time of the last record
    updated_at: dt.datetime
    records_read: int
    counted: int
    duplicates: int
    conflicts: int
    dead_lettered: int
    skipped: int
    gap_offsets: int
    unaccounted: int
    breaker_tripped_at: int | None
    dead_letters: dict[str, int]


def read_totals(dsn: str, query: Query, deadline: Deadline) -> list[Row]:
    """Sorted by project, time and name."""
    with connect(dsn, deadline) as connection, translated_errors():
        check_migrated(connection)
        return _totals(connection, query)


def read_status(dsn: str, topic: str, deadline: Deadline) -> list[PartitionStatus]:
    """Sorted by partition."""
    with connect(dsn, deadline) as connection, translated_errors():
        check_migrated(connection)
        rows = connection.execute(
            """SELECT partition, coalesce(host(client_addr), 'local') || ' session ' || pid, epoch, next_offset,
                      record_time, updated_at, records_read, counted, duplicates, conflicts, dead_lettered, skipped,
                      gap_offsets,
                      next_offset - first_offset - gap_offsets - counted - duplicates - dead_lettered - skipped,
                      breaker_tripped_at, dead_letters
               FROM checkpoints
                    LEFT JOIN pg_stat_activity ON pid = owner_pid AND backend_start = owner_started
               WHERE topic = %s ORDER BY partition""",
            (topic,),
        ).fetchall()
    return [PartitionStatus(*row) for row in rows]


def _totals(connection: Connection, query: Query) -> list[Row]:
    view, name, numbers = VIEWS[query.totals]
    start = "NULL::timestamptz" if query.by is By.TOTAL else "date_trunc(%(by)s, hour, 'UTC')"
    columns = [f"{number}_{kind}" for kind in ("posted", "leaf") for number in numbers]
    rows = connection.execute(
        f"""SELECT project_id, {start} AS start, {name}, {", ".join(f"sum({column})" for column in columns)}
            FROM {view}
            WHERE (%(project)s::text IS NULL OR project_id = %(project)s)
              AND hour >= coalesce(%(since)s, '-infinity'::timestamptz)
              AND hour < coalesce(%(until)s, 'infinity'::timestamptz)
            GROUP BY 1, 2, 3 ORDER BY 1, 2, 3""",
        {"by": query.by.value, "project": query.project, "since": query.since, "until": query.until},
    ).fetchall()
    at = len(numbers)
    return [
        Row(project, time and time.astimezone(dt.UTC), named, _named(numbers, sums[:at]), _named(numbers, sums[at:]))
        for project, time, named, *sums in rows
    ]


def _named(names: Sequence[str], sums: Sequence[int]) -> dict[str, int]:
    return {name: int(number) for name, number in zip(names, sums, strict=True)}
