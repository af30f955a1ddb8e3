"""Each call counts once: the keys of all calls that were counted, and which calls of a batch are repeats.

Keys are dropped by day, below `installation.key_floor`. A call is counted only if no earlier copy of it can have its
key below that floor. It is looked up after the keys are inserted: a day that holds a key of ours cannot be dropped
before we commit, and none is dropped before the floor that allows it can be seen.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import errors, sql

from processor.errors import Unavailable
from processor.sinks.base import Forgotten
from processor.sinks.postgres.call_keys import EPOCH, Repeats, StagedKeys
from processor.sinks.postgres.connection import Connection

# Created once a session; emptied by every commit.
_STAGING: Final = """
CREATE TEMP TABLE IF NOT EXISTS {staging} (
    call_key uuid, content_hash bigint, record_offset bigint, partition integer, day date, position integer
) ON COMMIT DELETE ROWS"""

# Sorted, so that two workers which meet the same keys wait for each other instead of for ever.
_INSERT: Final = """
WITH inserted AS (
    INSERT INTO {table} ({columns}) SELECT {columns} FROM {staging} ORDER BY call_key
    ON CONFLICT DO NOTHING RETURNING call_key
)
SELECT position FROM {staging} AS staged
WHERE NOT EXISTS (SELECT FROM inserted WHERE inserted.call_key = staged.call_key)"""

# A statement of its own: it sees a winner that another worker committed while the insert waited for it.
_WINNERS: Final = """
SELECT position, winner.content_hash FROM {staging} AS staged JOIN {table} AS winner USING (call_key)
WHERE position = ANY(%s)"""


@dataclass(frozen=True, slots=True)
class _KeyTable:
    table: str
    staging: str
    columns: tuple[str, ...]

    def statement(self, text: str) -> sql.Composed:
        return sql.SQL(text).format(
            table=sql.Identifier(self.table),
            staging=sql.Identifier(self.staging),
            columns=sql.SQL(", ").join(map(sql.Identifier, self.columns)),
        )


_TIMED: Final = _KeyTable("seen_calls", "batch_keys", ("call_key", "content_hash", "record_offset", "partition"))
_UNTIMED: Final = _KeyTable("seen_calls_untimed", "batch_keys_untimed", (*_TIMED.columns, "day"))


class Dedupe:
    def __init__(self) -> None:
        self._known_days: set[int] = set()

    def prepare(self, connection: Connection) -> None:
        """Once a session."""
        for table in (_TIMED, _UNTIMED):
            connection.execute(table.statement(_STAGING))

    def create_missing_days(self, connection: Connection, staged: StagedKeys) -> None:
        """In transactions of their own, before the batch's: the batch then never waits for DDL."""
        missing = staged.timed_days - self._known_days
        if missing:
            self.refuse_forgotten(connection, staged)  # the database creates no day below the floor
        for day in sorted(missing):
            connection.execute("SELECT create_key_day(%s)", (EPOCH + dt.timedelta(days=day),))
            self._known_days.add(day)

    def copy(self, connection: Connection, staged: StagedKeys) -> None:
        for table, content in ((_TIMED, staged.timed), (_UNTIMED, staged.untimed)):
            if content:
                command = sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table.staging))
                with connection.cursor().copy(command) as copy:
                    copy.write(content)

    def insert(self, connection: Connection, staged: StagedKeys) -> Repeats:
        """Insert the keys that are new, inside the batch's transaction; all repeats of the batch come back."""
        counted_before: dict[int, int | None] = {}
        for table, content in ((_TIMED, staged.timed), (_UNTIMED, staged.untimed)):
            if content and (found := self._insert(connection, table)):
                counted_before |= dict.fromkeys(found)
                counted_before |= dict(connection.execute(table.statement(_WINNERS), (found,)).fetchall())
        self.refuse_forgotten(connection, staged)
        return staged.repeats(counted_before)

    def refuse_forgotten(self, connection: Connection, staged: StagedKeys) -> None:
        """`Forgotten` if a key that we would have to know may be dropped."""
        row = connection.execute("SELECT key_floor - date '1970-01-01' FROM installation").fetchone()
        if row is not None and (forgotten := staged.older_than(row[0])):
            raise Forgotten(forgotten)

    def _insert(self, connection: Connection, table: _KeyTable) -> Sequence[int]:
        try:
            return [position for (position,) in connection.execute(table.statement(_INSERT)).fetchall()]
        except errors.CheckViolation as error:  # no partition for the row: its day was dropped meanwhile
            self._known_days.clear()
            raise Unavailable("a day of dedupe keys is missing; it is created before the next try") from error
