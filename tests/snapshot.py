"""A database that goes back in time: all tables of one schema as they were at a moment."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

FIRST = "checkpoints"  # locked first, as a batch does: the two wait for each other instead of for ever


class Snapshot:
    """Taken at once, in one transaction."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        with self._tables() as (connection, tables):
            for table in tables:
                connection.execute(sql.SQL("CREATE TABLE {} AS TABLE {}").format(_kept(table), sql.Identifier(table)))

    def restore(self) -> None:
        """As a restored backup: what came after the snapshot was never there."""
        with self._tables() as (connection, tables):
            connection.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(map(sql.Identifier, tables))))
            for table in tables:
                connection.execute(
                    sql.SQL("INSERT INTO {} SELECT * FROM {}").format(sql.Identifier(table), _kept(table))
                )

    @contextmanager
    def _tables(self) -> Iterator[tuple[psycopg.Connection, list[str]]]:
        with psycopg.connect(self._dsn) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ  # one moment for all tables
            rows = connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
                " AND relkind IN ('r', 'p') AND NOT relispartition AND relname NOT LIKE 'kept %%'"
                " ORDER BY relname <> %s, relname",
                [FIRST],
            ).fetchall()
            yield connection, [name for (name,) in rows]


def forget_snapshot(dsn: str) -> None:
    """So that another one can be taken."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
            " AND relkind = 'r' AND relname LIKE 'kept %'"
        ).fetchall()
        for (name,) in rows:
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))


def _kept(table: str) -> sql.Identifier:
    return sql.Identifier(f"kept {table}")
