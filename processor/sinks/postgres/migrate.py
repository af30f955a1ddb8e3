"""The schema, as numbered SQL files that are applied once each, in order, under a lock.

A file that was applied is never changed: its sha256 is kept. Each file keeps `installation.oldest_program`: the oldest
program that the schema still serves, so that an old program refuses a database that has moved on.
"""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from processor import __version__
from processor.deadline import Deadline
from processor.errors import ExitCode, Stop
from processor.sinks.postgres.connection import Connection, connect, translated_errors
from processor.sinks.postgres.grants import grant

_LOCK: Final = 0x63616C6C70726F63  # "callproc": one migration at a time in one database
_NOT_MIGRATED: Final = "the database is not migrated: run `call-processor migrate`"


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Migrated:
    applied: list[str]  # names of files
    granted: list[str]  # roles


def migrations() -> list[Migration]:
    """The files of schemas/postgres in the order of their numbers."""
    folder = files("processor").joinpath("schemas", "postgres")
    found = [
        Migration(int(match[1]), file.name, file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if (match := re.fullmatch(r"(\d{4})_\w+\.sql", file.name))
    ]
    return sorted(found, key=lambda migration: migration.number)


def migrate(dsn: str, deadline: Deadline) -> Migrated:
    """Apply what is missing, and grant what the roles need, all or nothing."""
    with connect(dsn, deadline) as connection, translated_errors():
        connection.execute("SELECT set_config('lock_timeout', '0', false), pg_advisory_lock(%s)", (_LOCK,))
        with connection.transaction():
            _require_schema(connection)
            connection.execute(
                "CREATE TABLE IF NOT EXISTS migrations ("
                " number integer PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            applied = _applied(connection)
            _refuse_changed_files(applied)
            missing = [migration for migration in migrations() if migration.number not in applied]
            for migration in missing:
                connection.execute(migration.sql.encode())
                connection.execute(
                    "INSERT INTO migrations (number, sha256) VALUES (%s, %s)", (migration.number, migration.sha256)
                )
            granted = grant(connection)
        return Migrated([migration.name for migration in missing], granted)


def check_migrated(connection: Connection) -> None:
    """`Stop` unless this program and the schema fit each other."""
    ((schema, table),) = connection.execute("SELECT current_schema(), to_regclass('migrations')").fetchall()
    if schema is None:
        raise Stop(
            ExitCode.DEPENDENCY,
            "no schema of the search_path exists for this role: check the DSN, or put the role into "
            "call_processor_worker or call_processor_reader and run `call-processor migrate`",
        )
    if table is None:
        raise Stop(ExitCode.DEPENDENCY, _NOT_MIGRATED)
    applied = _applied(connection)
    if any(migration.number not in applied for migration in migrations()):
        raise Stop(ExitCode.DEPENDENCY, _NOT_MIGRATED)
    _refuse_changed_files(applied)
    row = connection.execute("SELECT oldest_program FROM installation").fetchone()
    if row is None or _version(row[0]) > _version(__version__):
        raise Stop(
            ExitCode.PROTECT_NUMBERS,
            f"the database is newer than this program ({__version__}) and serves {row and row[0]} or later: upgrade it",
        )


def _applied(connection: Connection) -> dict[int, str]:
    return dict(connection.execute("SELECT number, sha256 FROM migrations").fetchall())


def _refuse_changed_files(applied: dict[int, str]) -> None:
    changed = [m.name for m in migrations() if applied.get(m.number, m.sha256) != m.sha256]
    if changed:
        raise Stop(
            ExitCode.PROTECT_NUMBERS,
            f"{', '.join(changed)} was applied to this database with another content: "
            "run the release that it was migrated with, or restore the file",
        )


def _require_schema(connection: Connection) -> None:
    if connection.execute("SELECT current_schema()").fetchone() == (None,):
        raise Stop(
            ExitCode.DEPENDENCY,
            "no schema of the DSN's search_path exists: CREATE SCHEMA first, then migrate",
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
