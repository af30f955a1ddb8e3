"""Days of dedupe keys: made before they are needed, dropped when no record can need them any more.

A record is counted only if its call ended at most `horizon` days before it, so a record that is still to come needs no
key that is older. Which records are still to come is known from the checkpoints alone: those after the last one that
was counted, or, in a partition that is read to its end, those after now.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from psycopg import errors

from processor.deadline import Deadline
from processor.ledger import Place
from processor.sinks.postgres.connection import Connection

SPARE_DAYS: Final = 2  # a call may end 25 h after its record, days are counted whole, and clocks differ
DROP_LOCK_MS: Final = 500  # dropping waits for the batches in flight, and all others wait behind it
DELETE_AT_ONCE: Final = 10_000
LOWER_AFTER: Final = dt.timedelta(days=7)  # so long a horizon must have been lower: a slip of one program costs no key

Bounds = Mapping[Place, tuple[int, int]]  # first offset that the log has, and the one after its last


@dataclass(frozen=True, slots=True)
class Floor:
    """Keys of days before `day` are needed by no record to come. `held_by`: the partition that keeps it so low."""

    day: dt.date | None  # None: a partition that was never counted may have records of any age
    held_by: Place | None


def compute_floor(
    progress: Mapping[Place, tuple[int, dt.datetime | None]], bounds: Bounds, now: dt.datetime, horizon_days: int
) -> Floor:
    """`progress`: next offset and time of the last counted record. `now`: before `bounds` were asked for, and those
    before `progress` was read."""
    needed_from: dict[Place, dt.datetime | None] = {}
    for place, (next_offset, record_time) in progress.items():
        at_its_end = place in bounds and next_offset >= bounds[place][1]
        needed_from[place] = now if at_its_end else record_time
    for place, (start, end) in bounds.items():
        if place not in needed_from and end > start:
            needed_from[place] = None
    for place, time in needed_from.items():
        if time is None:
            return Floor(None, place)
    held_by = min(needed_from, key=lambda place: needed_from[place] or now, default=None)
    oldest = now if held_by is None else min(now, needed_from[held_by] or now)
    day = (oldest - dt.timedelta(days=horizon_days + SPARE_DAYS)).astimezone(dt.UTC).date()
    return Floor(day, held_by if oldest < now else None)


def raise_floor(connection: Connection, bounds: Bounds, now: dt.datetime, horizon_days: int) -> tuple[dt.date, Floor]:
    """Store the floor, which never sinks; as it is stored now, and as it was computed."""
    with connection.transaction():
        # Locked first: two programs compute one after the other, each from what it reads then.
        connection.execute("SELECT FROM installation FOR UPDATE")
        rows = connection.execute(
            "SELECT cluster_id, topic_id, partition, next_offset, record_time FROM checkpoints"
        ).fetchall()
        kept_for = _lasting_horizon(connection, now, horizon_days)
        floor = compute_floor({row[:3]: (row[3], row[4]) for row in rows}, bounds, now, kept_for)
        ((stored,),) = connection.execute(
            "UPDATE installation SET key_floor = greatest(key_floor, coalesce(%s, key_floor)) RETURNING key_floor",
            (floor.day,),
        ).fetchall()
        return stored, floor


def _lasting_horizon(connection: Connection, now: dt.datetime, horizon_days: int) -> int:
    """The greatest that any program ran with in the last days."""
    connection.execute(
        "UPDATE maintenance SET horizon_days = %(days)s, horizon_at = %(now)s"
        " WHERE horizon_days <= %(days)s OR horizon_at < %(now)s - %(after)s",
        {"days": horizon_days, "now": now, "after": LOWER_AFTER},
    )
    ((lasting,),) = connection.execute("SELECT horizon_days FROM maintenance").fetchall()
    return int(lasting)


def create_days(connection: Connection, now: dt.datetime) -> list[dt.date]:
    """Today, tomorrow, and the day after: a call may end 25 h after its record. Those that were missing."""
    today = now.astimezone(dt.UTC).date()
    wanted = [today + dt.timedelta(days=ahead) for ahead in range(3)]
    missing = [day for day in wanted if day not in key_days(connection)]
    for day in missing:
        connection.execute("SELECT create_key_day(%s)", (day,))
    return missing


def key_days(connection: Connection, schema: str | None = None) -> list[dt.date]:
    """Days that have a table of keys, ascending. `schema`: not the one of the session."""
    rows = connection.execute(
        "SELECT to_date(right(relname, 8), 'YYYYMMDD') FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
        " WHERE inhparent = to_regclass(format('%%I.seen_calls', coalesce(%s, current_schema()))) ORDER BY 1",
        (schema,),
    ).fetchall()
    return [day for (day,) in rows]


def drop_days(connection: Connection, floor: dt.date, deadline: Deadline) -> tuple[list[dt.date], list[dt.date]]:
    """Days below the floor, which is committed: those dropped, and those left for another time."""
    dropped, left = [], []
    for day in key_days(connection):
        if day >= floor:
            break
        if deadline.passed():
            left.append(day)
            continue
        try:
            with connection.transaction():
                connection.execute("SELECT set_config('lock_timeout', %s, true)", (str(DROP_LOCK_MS),))
                connection.execute("SELECT drop_key_day(%s)", (day,))
        except errors.LockNotAvailable:
            left.append(day)
        else:
            dropped.append(day)
    return dropped, left


def delete_untimed(connection: Connection, floor: dt.date, deadline: Deadline) -> tuple[int, bool]:
    """Keys of other ids, by the day of their record, a few at a time; how many, and whether some are left."""
    deleted = 0
    while not deadline.passed():
        cursor = connection.execute(
            "DELETE FROM seen_calls_untimed WHERE ctid = ANY(ARRAY("
            "SELECT ctid FROM seen_calls_untimed WHERE day < %s LIMIT %s))",
            (floor, DELETE_AT_ONCE),
        )
        deleted += cursor.rowcount
        if cursor.rowcount < DELETE_AT_ONCE:
            return deleted, False
    return deleted, True
