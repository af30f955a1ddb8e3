"""What was counted again takes the place of what was there, in one transaction.

1. lock all checkpoints                     workers wait; their batches fail and are tried again
2. count the rest of the log, up to them    into the shadow, which commits by itself
3. change the rows of totals that differ    readers and views see the old ones until the end
4. exchange the tables of keys              and grant what the roles need on them
5. raise every epoch                        workers take their partitions anew, with the new counters
6. COMMIT

Killed at any point, the live tables are as they were.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from processor.deadline import Deadline
from processor.errors import ExitCode, Stop
from processor.sinks.base import LogIdentity
from processor.sinks.postgres import baselines
from processor.sinks.postgres.baselines import TOTALS
from processor.sinks.postgres.connection import Connection
from processor.sinks.postgres.grants import grant
from processor.sinks.postgres.key_days import key_days
from processor.sinks.postgres.maintain import once_alone, session
from processor.sinks.postgres.shadow import Shadow, drop_shadow, progress

LOCK_TIMEOUT_MS: Final = 30_000

_KEY: Final = ("project_id", "hour", "call_kind")
_COUNTERS: Final = (
    "records_read", "counted", "duplicates", "conflicts", "dead_lettered", "skipped", "gap_offsets", "dead_letters",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Changes:
    """Rows of one table."""

    added: int
    changed: int
    removed: int


def swap(
    dsn: str, log: LogIdentity, shadow: Shadow, catch_up: Callable[[Mapping[int, int]], object],
    deadline: Deadline, *, keep: bool,
) -> dict[str, Changes]:  # fmt: skip
    """By table what differs. `catch_up`: count up to these offsets. Not `keep`: take all back in the end."""
    with session(dsn, deadline) as connection, once_alone(connection):
        changes = {}
        connection.execute("SELECT set_config('lock_timeout', %s, false)", (str(LOCK_TIMEOUT_MS),))
        with connection.transaction() as transaction:
            ends = _fence(connection, log)
            catch_up(ends)
            reached = progress(
                connection, shadow
            )  # from now on nobody can drop the shadow, or put another in its place
            if reached != ends:
                raise Stop(ExitCode.DEPENDENCY, f"counted again up to {reached}, but the workers had come to {ends}")
            changes = {table: _replace(connection, shadow, table) for table in TOTALS}
            if not keep:
                raise psycopg.Rollback(transaction)
            _exchange_keys(connection, shadow)
            grant(connection)  # what was exchanged is another table
            _raise_epochs(connection, log, shadow)
            baselines.forget_all(connection)
            drop_shadow(connection, shadow)
        if keep:
            baselines.take(connection)
        else:
            drop_shadow(connection, shadow)  # the next run may be another program's: it must count for itself
        return changes


def _fence(connection: Connection, log: LogIdentity) -> dict[int, int]:
    """By partition, how far its records are decided; from now on nobody decides more of them. The whole table, not its
    rows: else a partition that is added now would be counted into tables that are about to go."""
    connection.execute("LOCK TABLE checkpoints IN EXCLUSIVE MODE")
    return dict(
        connection.execute(
            "SELECT partition, decided_to FROM decided WHERE cluster_id = %s AND topic_id = %s",
            (log.cluster_id, log.topic_id),
        ).fetchall()
    )


def _replace(connection: Connection, shadow: Shadow, table: str) -> Changes:
    """Make the live table say what the shadow says, from the first hour on that was counted again."""
    name, numbers = TOTALS[table]
    key, all_numbers = _columns(*_KEY, name), _columns(*numbers)
    parts: dict[str, sql.Composable] = {
        "live": sql.Identifier(shadow.live, table),
        "shadow": sql.Identifier(shadow.name, table),
        "key": key,
        "numbers": all_numbers,
        "fresh": _columns(*numbers, of="fresh"),
        "old": _columns(*numbers, of="old"),
        "set": sql.SQL(", ").join(sql.SQL("{0} = fresh.{0}").format(sql.Identifier(number)) for number in numbers),
        "same": sql.SQL(" AND ").join(
            sql.SQL("old.{0} = fresh.{0}").format(sql.Identifier(column)) for column in (*_KEY, name)
        ),
    }
    since = {"since": shadow.plan.kept_before}
    hours = "hour >= coalesce(%(since)s, '-infinity'::timestamptz)"

    def rows(statement: str) -> int:
        return connection.execute(sql.SQL(statement).format(**parts), since).rowcount

    removed = rows(
        f"DELETE FROM {{live}} AS old WHERE {hours} AND NOT EXISTS (SELECT FROM {{shadow}} AS fresh WHERE {{same}})"
    )
    changed = rows(
        "UPDATE {live} AS old SET {set}, updated_at = now() FROM {shadow} AS fresh"
        f" WHERE {{same}} AND old.{hours} AND ({{old}}) IS DISTINCT FROM ({{fresh}})"
    )
    added = rows(
        f"INSERT INTO {{live}} ({{key}}, {{numbers}}) SELECT {{key}}, {{numbers}} FROM {{shadow}} AS fresh"
        f" WHERE {hours} AND NOT EXISTS (SELECT FROM {{live}} AS old WHERE {{same}})"
    )
    return Changes(added, changed, removed)


def _exchange_keys(connection: Connection, shadow: Shadow) -> None:
    """Days below the floor stay out: they may be gone by right."""
    ((floor,),) = connection.execute("SELECT key_floor FROM installation").fetchall()
    fresh = key_days(connection, shadow.name)
    for day in key_days(connection):
        _alter(connection, "DROP TABLE {}", sql.Identifier(shadow.live, _table(day)))
        if day not in fresh:
            connection.execute("SELECT create_key_day(%s)", (day,))
    for day in (day for day in fresh if day >= floor):
        table = sql.Identifier(shadow.name, _table(day))
        ((first, following),) = connection.execute(
            "SELECT first_key_of_day(%s)::text, first_key_of_day(%s::date + 1)::text", (day, day)
        ).fetchall()
        _alter(connection, "ALTER TABLE {}.seen_calls DETACH PARTITION {}", sql.Identifier(shadow.name), table)
        _alter(connection, "ALTER TABLE {} SET SCHEMA {}", table, sql.Identifier(shadow.live))
        _alter(
            connection,
            "ALTER TABLE {}.seen_calls ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})",
            sql.Identifier(shadow.live), sql.Identifier(shadow.live, _table(day)),
            sql.Literal(first), sql.Literal(following),
        )  # fmt: skip
    _alter(connection, "DROP TABLE {}", sql.Identifier(shadow.live, "seen_calls_untimed"))
    _alter(
        connection,
        "ALTER TABLE {} SET SCHEMA {}",
        sql.Identifier(shadow.name, "seen_calls_untimed"),
        sql.Identifier(shadow.live),
    )


def _raise_epochs(connection: Connection, log: LogIdentity, shadow: Shadow) -> None:
    """The counters too, where they are of the same records."""
    arguments = (log.cluster_id, log.topic_id)
    counters = sql.SQL(", ").join(sql.SQL("{0} = fresh.{0}").format(sql.Identifier(column)) for column in _COUNTERS)
    connection.execute(
        sql.SQL(
            "UPDATE checkpoints SET {counters} FROM {shadow}.checkpoints AS fresh"
            " WHERE checkpoints.cluster_id = %s AND checkpoints.topic_id = %s"
            " AND checkpoints.partition = fresh.partition AND checkpoints.first_offset = fresh.first_offset"
            " AND checkpoints.next_offset = fresh.next_offset"
        ).format(shadow=sql.Identifier(shadow.name), counters=counters),
        arguments,
    )
    connection.execute(
        "UPDATE checkpoints SET epoch = epoch + 1, updated_at = now() WHERE cluster_id = %s AND topic_id = %s",
        arguments,
    )


def _table(day: dt.date) -> str:
    return f"seen_calls_{day:%Y%m%d}"


def _columns(*names: str, of: str | None = None) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(name) if of is None else sql.Identifier(of, name) for name in names)


def _alter(connection: Connection, statement: str, *names: sql.Composable) -> None:
    connection.execute(sql.SQL(statement).format(*names))
