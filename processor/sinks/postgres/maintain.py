"""Looking after the tables: days of dedupe keys, and a baseline a day. One program at a time in one schema.

Every step is short or ends at the deadline, and what is left over is done by the next run; nothing here holds a lock
that a batch would wait for longer than half a second.
"""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from psycopg import errors

from processor.deadline import Deadline
from processor.errors import ExitCode, Stop
from processor.sinks.postgres import baselines
from processor.sinks.postgres.connection import Connection, allow_long_transactions, connect, translated_errors
from processor.sinks.postgres.key_days import (
    Bounds,
    Floor,
    create_days,
    delete_untimed,
    drop_days,
    key_days,
    raise_floor,
)
from processor.sinks.postgres.migrate import check_migrated

# One number for each schema of a database; two 32-bit halves, so that it meets no lock of `migrate`.
_LOCK: Final = "hashtext('call-processor maintenance'), hashtext(current_schema())"

WAIT_MS: Final = 30_000


GROWING: Final = ("usage_totals", "status_totals", "outcome_totals", "seen_calls", "seen_calls_untimed")
_SIZES: Final = """
SELECT whole.relname, sum(coalesce(pg_total_relation_size(part.oid), 0)), sum(greatest(part.reltuples, 0))
FROM unnest(%(tables)s::text[]) AS name
     JOIN pg_class AS whole ON whole.oid = to_regclass(name)
     LEFT JOIN pg_inherits ON inhparent = whole.oid
     JOIN pg_class AS part ON part.oid = coalesce(inhrelid, whole.oid)
GROUP BY whole.relname"""


@dataclass(frozen=True, slots=True)
class State:
    """`age_s`: since the last complete run, or since there is anything to look after."""

    age_s: float
    has_tomorrow: bool
    schema_version: int
    sizes: "dict[str, Size]"  # by table


@dataclass(frozen=True, slots=True)
class Size:
    bytes: int  # on disk, with indexes and what is not read any more
    rows: int  # as the planner estimates them


@dataclass(frozen=True, slots=True)
class Done:
    created: list[dt.date]
    floor: dt.date  # as it is stored
    computed: Floor
    dropped: list[dt.date]
    left: list[dt.date]  # could be dropped, but somebody uses them now
    deleted_untimed: int
    more_untimed: bool
    baseline: int | None  # taken
    baselines_removed: int = field(default=0)


@contextmanager
def session(dsn: str, deadline: Deadline) -> Iterator[Connection]:
    """A session whose transactions may last as long as the deadline; errors are translated."""
    with connect(dsn, deadline) as connection, translated_errors():
        allow_long_transactions(connection, deadline)
        check_migrated(connection)
        yield connection


@contextmanager
def alone(connection: Connection) -> Iterator[bool]:
    """Whether nobody else looks after these tables now; until the context is left, nobody does."""
    ((got,),) = connection.execute(f"SELECT pg_try_advisory_lock({_LOCK})").fetchall()
    try:
        yield got
    finally:
        if got and not connection.closed:
            connection.execute(f"SELECT pg_advisory_unlock({_LOCK})")


@contextmanager
def once_alone(connection: Connection) -> Iterator[None]:
    """As `alone`, for who cannot come again: waits for the other; `Stop` if that takes long."""
    try:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", (str(WAIT_MS),))
            connection.execute(f"SELECT pg_advisory_lock({_LOCK})")  # of the session: it outlasts the transaction
    except errors.LockNotAvailable:
        raise Stop(
            ExitCode.DEPENDENCY,
            "another program looks after these tables now (maintain, or rebuild): try again later",
        ) from None
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(f"SELECT pg_advisory_unlock({_LOCK})")


def read_state(dsn: str, now: dt.datetime, deadline: Deadline) -> State:
    with session(dsn, deadline) as connection:
        ((age_s,),) = connection.execute(
            "SELECT greatest(0, extract(epoch FROM now() - coalesce(last_run_at, created_at)))::float8 FROM maintenance"
        ).fetchall()
        ((version,),) = connection.execute("SELECT max(number) FROM migrations").fetchall()
        has_tomorrow = now.astimezone(dt.UTC).date() + dt.timedelta(days=1) in key_days(connection)
        return State(age_s, has_tomorrow, version, _sizes(connection))


def _sizes(connection: Connection) -> dict[str, Size]:
    """Days of keys together."""
    rows = connection.execute(_SIZES, {"tables": list(GROWING)}).fetchall()
    return {table: Size(int(size), int(rows)) for table, size, rows in rows}


def is_due(dsn: str, every: dt.timedelta, deadline: Deadline) -> bool:
    with session(dsn, deadline) as connection:
        ((due,),) = connection.execute(
            "SELECT last_run_at IS NULL OR last_run_at <= now() - %s FROM maintenance", (every,)
        ).fetchall()
        return bool(due)


def topics_counted(dsn: str, deadline: Deadline) -> list[str]:
    """Names of the topics whose calls these tables hold."""
    with session(dsn, deadline) as connection:
        return [name for (name,) in connection.execute("SELECT DISTINCT topic FROM checkpoints ORDER BY 1").fetchall()]


def maintain(dsn: str, bounds: Bounds, asked_at: dt.datetime, horizon_days: int, deadline: Deadline) -> Done | None:
    """None if another program is at it. `asked_at`: a moment before `bounds` were asked for."""
    with session(dsn, deadline) as connection, alone(connection) as got:
        if not got:
            return None
        now = min(asked_at, _database_time(connection))  # a clock that is fast must not make a day look old
        created = create_days(connection, asked_at)
        floor, computed = raise_floor(connection, bounds, now, horizon_days)
        dropped, left = drop_days(connection, floor, deadline)
        deleted, more = delete_untimed(connection, floor, deadline)
        kept = baselines.baselines(connection)
        taken = None
        due = not kept or asked_at - kept[-1].taken_at >= baselines.EVERY
        if due and baselines.can_be_taken(connection):
            taken = baselines.take(connection)
        removed = baselines.forget_useless(connection, bounds)
        connection.execute("UPDATE maintenance SET last_run_at = now()")
        return Done(created, floor, computed, dropped, left, deleted, more, taken, removed)


def _database_time(connection: Connection) -> dt.datetime:
    ((now,),) = connection.execute("SELECT clock_timestamp()").fetchall()
    assert isinstance(now, dt.datetime)  # noqa: S101
    return now
