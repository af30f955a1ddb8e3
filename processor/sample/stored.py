"""What PostgreSQL holds, read row by row, and where it differs from what must be there."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields

import psycopg
from psycopg import sql

from processor.calls import USAGE_FIELDS
from processor.sample.oracle import TABLES, Rows, Tables

_NAMED = {"usage_totals": "model", "status_totals": "status", "outcome_totals": "outcome"}
_NUMBERS = {"usage_totals": ("calls", *USAGE_FIELDS), "status_totals": ("count",), "outcome_totals": ("calls",)}


def read(dsn: str, projects: Sequence[str] | None = None) -> Tables:
    """The three totals tables, in one snapshot; of `projects`, or of all."""
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        return {table: _rows(connection, table, projects) for table in TABLES}


def _rows(connection: psycopg.Connection, table: str, projects: Sequence[str] | None) -> Rows:
    names = ("project_id", "hour", _NAMED[table], "call_kind", *_NUMBERS[table])
    query = sql.SQL("SELECT {} FROM {} WHERE %(all)s OR project_id = ANY(%(projects)s)").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(table)
    )
    rows = connection.execute(query, {"all": projects is None, "projects": list(projects or ())})
    return {(row[0], row[1], row[2], row[3]): tuple(map(int, row[4:])) for row in rows}


def differences(stored: Tables, expected: Tables) -> Iterator[str]:
    """One line for each row that is missing, too many or wrong."""
    for table in TABLES:
        have, want = stored[table], expected[table]
        for key in sorted(have.keys() | want.keys()):
            if have.get(key) != want.get(key):
                yield f"{table} {_shown(key)}: stored {have.get(key)}, expected {want.get(key)}"


def _shown(key: tuple[object, ...]) -> str:
    return " ".join(str(part) or '""' for part in key)


@dataclass(frozen=True, slots=True)
class Counters:
    """What the checkpoints of one topic say, all partitions together."""

    next_offset: int = 0
    records_read: int = 0
    counted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    dead_lettered: int = 0
    skipped: int = 0

    def since(self, before: "Counters") -> "Counters":
        return Counters(**{name: value - getattr(before, name) for name, value in asdict(self).items()})


def counters(dsn: str, topic: str) -> Counters:
    names = [field.name for field in fields(Counters)]
    sums = sql.SQL(", ").join(sql.SQL("coalesce(sum({}), 0)").format(sql.Identifier(name)) for name in names)
    with psycopg.connect(dsn) as connection:
        query = sql.SQL("SELECT {} FROM checkpoints WHERE topic = %s").format(sums)
        row = connection.execute(query, [topic]).fetchone()
    return Counters(*map(int, row or ()))
