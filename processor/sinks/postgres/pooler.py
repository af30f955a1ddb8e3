"""A pooler between us and PostgreSQL (PgBouncer, and its like) may give each transaction another session.

What we do is bound to a session: its timeouts, its temporary tables, its locks, and that a row names the session of its
owner, so that a frozen one can be ended. So a pooler has to give us one session for as long as we are connected.
"""

import time
from typing import Any, Final

import psycopg

from processor.errors import ExitCode, Stop

TRIES: Final = 3
LOOKS: Final = 30  # in a busy pool somebody takes our session while we wait, sooner or later
WAIT_S: Final = 0.003
CONNECT_TIMEOUT_S: Final = 3
_SESSION: Final = "SELECT pg_backend_pid()"


def refuse_shared_sessions(connection: "psycopg.Connection[tuple[Any, ...]]", dsn: str) -> None:
    """`Stop` if `connection`, which is in no transaction, shares its session with others.

    A pooler makes up the process id that it tells at the start; without one nothing more is asked. Behind one, a second
    connection is opened and kept in a transaction: if it has our session, or if ours is now another one, sessions are
    shared.
    """
    if _session(connection) == connection.info.backend_pid:
        return
    for _ in range(TRIES):
        ours = _session(connection)
        with psycopg.connect(dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S) as other, other.transaction():
            if _session(other) == ours or _changes(connection, ours):
                raise Stop(
                    ExitCode.DEPENDENCY,
                    "a pooler between us and PostgreSQL gives each transaction another session (PgBouncer with "
                    "pool_mode=transaction): use its pool_mode=session for this database, or the server itself",
                )


def _changes(connection: "psycopg.Connection[Any]", session: int) -> bool:
    for _ in range(LOOKS):
        if _session(connection) != session:
            return True
        time.sleep(WAIT_S)
    return False


def _session(connection: "psycopg.Connection[Any]") -> int:
    row = connection.execute(_SESSION, prepare=False).fetchone()  # prepared, it would be unknown to the next session
    return int(row[0]) if row else 0
