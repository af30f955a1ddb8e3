"""Each call counts once: the keys of all calls that were counted, and which calls of a batch are repeats.

Most batches hold only new calls, and repeats of what was counted lately. What looks like one of these is looked up, and
all other keys are copied straight into their tables. If one of them is there already, nothing of that is kept, and the
batch's keys go by way of a staging table, which costs twice as much. The more often that happens, the more of the next
batches take the long way at once.

Keys are dropped by day, below `installation.key_floor`. A call is counted only if no earlier copy of it can have its
key below that floor. It is looked up after the keys are inserted: a day that holds a key of ours cannot be dropped
before we commit, and none is dropped before the floor that allows it can be seen.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from psycopg import errors, sql

from processor.errors import Unavailable
from processor.sinks.base import Forgotten
from processor.sinks.postgres.call_keys import EPOCH, StagedKeys
from processor.sinks.postgres.connection import Connection
from processor.sinks.postgres.key_filter import KeyFilter

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

_LOOK_UP: Final = "SELECT call_key, content_hash FROM {table} WHERE call_key = ANY(%s)"

# A statement of its own: it sees a winner that another worker committed while the insert waited for it.
_WINNERS: Final = """
SELECT position, winner.content_hash FROM {staging} AS staged JOIN {table} AS winner USING (call_key)
WHERE position = ANY(%s)"""


@dataclass(frozen=True, slots=True)
class _KeyTable:
    table: str
    staging: str
    timed: bool
    columns: tuple[str, ...]

    def statement(self, text: str) -> sql.Composed:
        return sql.SQL(text).format(
            table=sql.Identifier(self.table),
            staging=sql.Identifier(self.staging),
            columns=sql.SQL(", ").join(map(sql.Identifier, self.columns)),
        )


_COLUMNS: Final = ("call_key", "content_hash", "record_offset", "partition")
_TABLES: Final = (
    _KeyTable("seen_calls", "batch_keys", True, _COLUMNS),
    _KeyTable("seen_calls_untimed", "batch_keys_untimed", False, (*_COLUMNS, "day")),
)
_STAGED: Final = (*_COLUMNS, "day", "position")
MOST_STAGED: Final = 64  # batches before it is tried again to copy keys straight away


class Dedupe:
    """Belongs to one session."""

    def __init__(self) -> None:
        self._filter = KeyFilter()
        self._known_days: set[int] = set()
        self._staged_next = 0  # so many batches take the long way
        self._staged_after_repeat = 1

    def prepare(self, connection: Connection) -> None:
        """Once a session."""
        for table in _TABLES:
            connection.execute(table.statement(_STAGING))

    def create_missing_days(self, connection: Connection, staged: StagedKeys) -> None:
        """In transactions of their own, before the batch's: the batch then never waits for DDL."""
        missing = staged.timed_days - self._known_days
        if missing:
            self.refuse_forgotten(connection, staged)  # the database creates no day below the floor
        for day in sorted(missing):
            connection.execute("SELECT create_key_day(%s)", (EPOCH + dt.timedelta(days=day),))
            self._known_days.add(day)

    def insert(
        self, connection: Connection, staged: StagedKeys, meanwhile: Callable[[Mapping[int, int | None]], object]
    ) -> dict[int, int | None]:
        """Insert the keys that are new, inside the batch's transaction. The others come back: by position, the content
        hash of the call that was counted (None: unknown). `meanwhile`: called while the database inserts, if it does,
        with what will come back unless it refuses one.
        """
        counted_before = self._copy_new(connection, staged, meanwhile)
        if counted_before is None:
            counted_before = self._insert_new(connection, staged)
        self._filter.add(staged.hashes)
        self.refuse_forgotten(connection, staged)
        return counted_before

    def refuse_forgotten(self, connection: Connection, staged: StagedKeys) -> None:
        """`Forgotten` if a key that we would have to know may be dropped."""
        row = connection.execute("SELECT key_floor - date '1970-01-01' FROM installation").fetchone()
        if row is not None and (forgotten := staged.older_than(row[0])):
            raise Forgotten(forgotten)

    def _copy_new(
        self, connection: Connection, staged: StagedKeys, meanwhile: Callable[[Mapping[int, int | None]], object]
    ) -> dict[int, int | None] | None:
        """None: that is not done here, or one of them is there already."""
        if self._staged_next:
            self._staged_next -= 1
            return None
        try:
            with connection.transaction(), self._missing_days():
                counted_before = self._looked_up(connection, staged)
                for table in _TABLES:
                    content = staged.copied(table.timed, table.columns, without=counted_before)
                    self._copy(connection, table.table, content, lambda: meanwhile(counted_before))
        except errors.UniqueViolation:
            self._staged_next = self._staged_after_repeat
            self._staged_after_repeat = min(2 * self._staged_after_repeat, MOST_STAGED)
            return None
        self._staged_after_repeat = max(self._staged_after_repeat // 2, 1)
        return counted_before

    def _looked_up(self, connection: Connection, staged: StagedKeys) -> dict[int, int | None]:
        """Those of the suspected keys that are there, as `insert` tells them."""
        suspected = self._filter.suspected(staged.hashes)
        counted_before: dict[int, int | None] = {}
        for table in _TABLES:
            if positions := staged.positions(suspected & (staged.is_timed == table.timed)):
                found = connection.execute(table.statement(_LOOK_UP), (list(positions),)).fetchall()
                counted_before |= {positions[key]: content_hash for key, content_hash in found}
        return counted_before

    def _insert_new(self, connection: Connection, staged: StagedKeys) -> dict[int, int | None]:
        counted_before: dict[int, int | None] = {}
        for table in _TABLES:
            if not self._copy(connection, table.staging, staged.copied(table.timed, _STAGED)):
                continue
            with self._missing_days():
                found = [position for (position,) in connection.execute(table.statement(_INSERT)).fetchall()]
            if found:
                counted_before |= dict.fromkeys(found)
                counted_before |= dict(connection.execute(table.statement(_WINNERS), (found,)).fetchall())
        return counted_before

    def _copy(
        self, connection: Connection, table: str, content: bytes, meanwhile: Callable[[], object] | None = None
    ) -> bool:
        """Whether there is any."""
        if content:
            command = sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table))
            with connection.cursor().copy(command) as copy:
                copy.write(content)
                if meanwhile is not None:
                    meanwhile()
        return bool(content)

    @contextmanager
    def _missing_days(self) -> Iterator[None]:
        try:
            yield
        except errors.CheckViolation as error:  # no partition for the row: its day was dropped meanwhile
            self._known_days.clear()
            raise Unavailable("a day of dedupe keys is missing; it is created before the next try") from error
