"""The tables, as the accounting tools read them."""

import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from processor.calls import USAGE_FIELDS
from processor.counting.rows import CountedCall
from processor.deadline import Deadline
from processor.errors import ExitCode, Stop
from processor.ledger import Absent, Baseline, Counters, Decided, Place, Row, Winner
from processor.sinks.postgres.baselines import TOTALS
from processor.sinks.postgres.call_keys import call_key, oldest_day
from processor.sinks.postgres.connection import Connection, connect, translated_errors
from processor.sinks.postgres.maintain import session

FETCH: Final = 10_000
DEADLINE_S: Final = 3600.0  # of one snapshot; of one look at keys less would do
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_HOUR: Final = dt.timedelta(hours=1)

_DECIDED: Final = """
SELECT cluster_id, topic_id, partition, decided_to, first_offset, next_offset, counted, duplicates + dead_lettered,
       skipped, begins
FROM checkpoints JOIN decided USING (cluster_id, topic_id, partition)"""

# What a key says of a place in the log holds while these do: a rebuild exchanges the tables of keys, and an operator
# who moves or adopts a checkpoint gives it another beginning.
_GROUNDS: Final = """
SELECT cluster_id, topic_id, partition, first_offset, pg_class.oid
FROM checkpoints, pg_class WHERE relname = 'seen_calls_untimed' AND relnamespace = current_schema()::regnamespace"""

_BASELINES: Final = """
SELECT number, taken_at, cluster_id, topic_id, partition, decided_to, first_offset, next_offset, counted, uncounted,
       skipped
FROM baselines LEFT JOIN baseline_offsets ON baseline = number ORDER BY number"""

_ROWS: Final = """
SELECT {literal}, project_id, hour, {name}, call_kind, ARRAY[{numbers}]::numeric[] FROM {table}
WHERE %(project)s::text IS NULL OR project_id = %(project)s ORDER BY project_id, hour, {name}, call_kind"""

_ROWS_OF: Final = """
SELECT DISTINCT ON (totals, project_id, hour, name, call_kind) totals, project_id, hour, name, call_kind, numbers
FROM baseline_totals
WHERE baseline <= %(baseline)s AND (%(project)s::text IS NULL OR project_id = %(project)s)
ORDER BY totals, project_id, hour, name, call_kind, baseline DESC"""

# Key by key, each in the one partition that can have it.
_WINNERS: Final = """
SELECT call_key, partition, record_offset, content_hash
FROM unnest(%s::uuid[]) AS wanted(call_key) JOIN {} USING (call_key)"""


@dataclass(frozen=True, slots=True)
class PostgresSnapshot:
    connection: Connection
    decided: Mapping[Place, Decided]
    begins: Mapping[Place, int]
    adopted_at: dt.datetime | None
    baselines: Sequence[Baseline]
    grounds: frozenset[tuple[Any, ...]]

    def rows(self, project: str | None) -> Iterator[Row]:
        for table, (name, numbers) in TOTALS.items():
            query = sql.SQL(_ROWS).format(
                literal=sql.Literal(table),
                table=sql.Identifier(table),
                name=sql.Identifier(name),
                numbers=sql.SQL(", ").join(map(sql.Identifier, numbers)),
            )
            yield from self._stream(query, {"project": project})

    def rows_of(self, baseline: int, project: str | None) -> Iterator[Row]:
        for row in self._stream(sql.SQL(_ROWS_OF), {"project": project, "baseline": baseline}):
            (table, *_), numbers = row
            if table == "usage_totals" and numbers is not None:
                numbers += (0,) * (1 + len(USAGE_FIELDS) - len(numbers))  # fields that were added later
            yield row[0], numbers

    def _stream(self, query: sql.SQL | sql.Composed, arguments: Mapping[str, Any]) -> Iterator[Row]:
        with self.connection.cursor(name="rows") as cursor:
            cursor.itersize = FETCH
            cursor.execute(query, arguments)
            for table, project_id, hour, name, kind, numbers in cursor:
                yield (table, project_id, (hour - _EPOCH) // _HOUR, name, kind), tuple(map(int, numbers))


@dataclass(slots=True)
class PostgresLedger:
    dsn: Callable[[], str]
    _keys: Connection | None = None
    _seed: bytes = b""

    @contextmanager
    def snapshot(self) -> Iterator[PostgresSnapshot]:
        with session(self.dsn(), Deadline.after(DEADLINE_S)) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            with connection.transaction():
                rows = connection.execute(_DECIDED).fetchall()
                ((adopted_at,),) = connection.execute("SELECT adopted_at FROM maintenance").fetchall()
                yield PostgresSnapshot(
                    connection,
                    {row[:3]: _decided(row[3:9]) for row in rows},
                    {row[:3]: row[9] for row in rows},
                    adopted_at,
                    _baselines(connection.execute(_BASELINES).fetchall()),
                    frozenset(connection.execute(_GROUNDS).fetchall()),
                )

    def require_unmoved(self, snapshot: PostgresSnapshot) -> None:
        """`Stop` if the keys looked up since the snapshot need not be those of its totals."""
        with translated_errors():
            if not snapshot.grounds <= set(self._session().execute(_GROUNDS).fetchall()):
                raise Stop(
                    ExitCode.DEPENDENCY,
                    "the totals were rebuilt, or a checkpoint was moved, while the log was counted again: verify again",
                )

    def winners(self, calls: Sequence[CountedCall]) -> list[Winner | Absent]:
        if not calls:
            return []
        with translated_errors():
            connection = self._session()
            keys = [call_key(self._seed, call.project_id, call.id) for call in calls]
            found = self._find(connection, "seen_calls", [key for key, day in keys if day is not None])
            found |= self._find(connection, "seen_calls_untimed", [key for key, day in keys if day is None])
            # After the keys: a key that was there before the floor rose was found.
            ((floor,),) = connection.execute("SELECT key_floor - date '1970-01-01' FROM installation").fetchall()
        return [
            found.get(key) or (Absent.FORGOTTEN if oldest_day(day, call.ended_at_us) < floor else Absent.NEVER_COUNTED)
            for (key, day), call in zip(keys, calls, strict=True)
        ]

    def close(self) -> None:
        if self._keys is not None:
            self._keys.close()

    def _find(self, connection: Connection, table: str, keys: Sequence[bytes]) -> dict[bytes, Winner]:
        wanted = [uuid.UUID(bytes=key) for key in sorted(set(keys))]
        rows = connection.execute(sql.SQL(_WINNERS).format(sql.Identifier(table)), (wanted,)).fetchall()
        return {key.bytes: Winner(*place) for key, *place in rows}

    def _session(self) -> Connection:
        if self._keys is None or self._keys.closed:
            self._keys = connect(self.dsn(), Deadline.after(DEADLINE_S))
            ((self._seed,),) = self._keys.execute("SELECT hash_seed FROM installation").fetchall()
            # A few thousand keys of millions: the planner, which does not see that each is in one partition only,
            # would rather read them all.
            for path in ("hashjoin", "mergejoin", "seqscan"):
                self._keys.execute(f"SET enable_{path} = off".encode())
        self._keys.deadline = Deadline.after(DEADLINE_S)
        return self._keys


def _decided(row: Sequence[int]) -> Decided:
    to, *counters = row
    return Decided(to, Counters(*counters))


def _baselines(rows: Sequence[tuple[Any, ...]]) -> list[Baseline]:
    found: dict[int, tuple[dt.datetime, dict[Place, Decided]]] = {}
    for number, taken_at, *place, to, first, following, counted, uncounted, skipped in rows:
        _, decided = found.setdefault(number, (taken_at, {}))
        if to is not None:
            decided[place[0], place[1], place[2]] = _decided((to, first, following, counted, uncounted, skipped))
    return [Baseline(number, taken_at, decided) for number, (taken_at, decided) in found.items()]
