"""A connection that ends at its deadline, and what PostgreSQL's errors mean.

A server that says nothing (stopped, or cut off by the network) answers no timeout of its own: so the client keeps a
deadline for every wait and closes the socket when it has passed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import _WaitTimeout

from processor.config import PREFIX
from processor.deadline import Deadline
from processor.errors import Defect, ExitCode, Stop, Unavailable
from processor.sinks.base import Unstorable
from processor.sinks.postgres import arrays
from processor.sinks.postgres.place import place
from processor.sinks.postgres.pooler import refuse_shared_sessions

CONNECT_TIMEOUT_S: Final = 3
LOCK_TIMEOUT_MS: Final = 2000
IDLE_IN_TRANSACTION_TIMEOUT_MS: Final = 5000
TRANSACTION_TIMEOUT_MS: Final = 20000

# SQLSTATEs of a server that may answer the same request later: connection, resources, serialization, deadlock,
# lock timeout, shutdown and start, cancelled, read-only after a fail-over.
_TRANSIENT: Final = ("08", "53", "40001", "40P01", "55P03", "57P0", "57014", "25006")
# Server-side timeouts that end a session.
_TIMEOUTS: Final = ("25P03", "25P04", "57P05")
_DATA: Final = ("22", "23", "54")
_OF_TLS: Final = ("SSL", "certificate", "private key")
# What libpq and psycopg say, and what we do.
_WHY: Final = {
    "Connection refused": "the connection is refused: nothing listens there",
    "timeout expired": "no answer in time",
    "Name or service not known": "that name does not resolve",
    "could not translate host name": "that name does not resolve",
    "failed to resolve host": "that name does not resolve",
    "No such file or directory": "there is no such socket",
    "Network is unreachable": "no route to that network",
    "No route to host": "no route to that host",
    "closed the connection unexpectedly": "the server closed the connection",
}


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A psycopg connection whose every wait ends at `deadline`."""

    deadline: Deadline | None = None

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        if self.deadline is not None:
            kwargs["timeout"] = self.deadline.remaining_s()
        return super().wait(*args, **kwargs)


def connect(dsn: str, deadline: Deadline) -> Connection:
    """A new session with the timeouts of a worker; `Unavailable` if the server does not answer, `Stop` if a pooler
    stands before it that shares its sessions."""
    _check(dsn)
    with translated_errors(place(dsn)):
        connection = Connection.connect(
            dsn,
            autocommit=True,
            connect_timeout=max(1, min(CONNECT_TIMEOUT_S, round(deadline.remaining_s()))),
            application_name="call-processor",
        )
        connection.deadline = deadline
        arrays.register(connection.adapters)
        try:
            _set_up(connection, dsn)
        except BaseException:
            connection.close()
            raise
        return connection


def _set_up(connection: Connection, dsn: str) -> None:
    refuse_shared_sessions(connection, dsn)  # before anything is set in a session that others get next
    # Set by statement, not by `options`: the DSN's own options (its search_path) would be replaced by ours.
    connection.execute(
        "SELECT set_config('lock_timeout', %s, false), set_config('idle_in_transaction_session_timeout', %s, false)",
        (str(LOCK_TIMEOUT_MS), str(IDLE_IN_TRANSACTION_TIMEOUT_MS)),
    )
    if connection.info.server_version >= 170000:
        connection.execute("SELECT set_config('transaction_timeout', %s, false)", (str(TRANSACTION_TIMEOUT_MS),))


def allow_long_transactions(connection: Connection, deadline: Deadline) -> None:
    """For work that is no batch: a transaction may last, and wait for its client, as long as the deadline."""
    until_ms = str(round(deadline.remaining_s() * 1000) + 1000)
    connection.execute(
        "SELECT set_config('idle_in_transaction_session_timeout', %(ms)s, false),"
        " set_config('statement_timeout', %(ms)s, false)",
        {"ms": until_ms},
    )
    if connection.info.server_version >= 170000:
        connection.execute("SELECT set_config('transaction_timeout', %s, false)", (until_ms,))


def _check(dsn: str) -> None:
    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise Stop(ExitCode.USAGE, f"{PREFIX}POSTGRES__DSN (or its file) does not hold a connection string") from None


@contextmanager
def translated_errors(server: str = "") -> Iterator[None]:
    """`Unavailable` for what may pass, `Unstorable` for a refused value, `Stop` for what an operator must mend.

    `server`: the words for its place, as `place` has them.
    """
    try:
        yield
    except _WaitTimeout:
        raise Unavailable("PostgreSQL did not answer before the deadline") from None
    except psycopg.Error as error:
        raise _translated(error, server) from None  # its own message may hold values of the batch


def _translated(error: psycopg.Error, server: str) -> Exception:
    state = error.sqlstate
    if state is None:
        return _of_client(error, server)
    if state in _TIMEOUTS or state.startswith(_TRANSIENT):
        return Unavailable(f"PostgreSQL cannot take it now (SQLSTATE {state}, {type(error).__name__})")
    if state == "23514" and error.diag.table_name == "checkpoints":
        return Stop(
            ExitCode.PROTECT_NUMBERS,
            f"a batch would break the law {error.diag.constraint_name}: nothing was written; please report this defect",
        )
    if state == "42P01":
        return Stop(ExitCode.DEPENDENCY, "the database has no tables of ours: run `call-processor migrate`")
    if state == "42501":
        return Stop(
            ExitCode.DEPENDENCY,
            f"PostgreSQL refuses us ({error.diag.message_primary}): run `call-processor migrate`, which grants; "
            "docs/security.md says what each role may do",
        )
    if state.startswith("28") or state == "3D000":
        return Stop(
            ExitCode.DEPENDENCY, f"PostgreSQL refuses us (SQLSTATE {state}): check the DSN and the role's rights"
        )
    if state.startswith(_DATA):
        return Unstorable(f"SQLSTATE {state}, {type(error).__name__}")
    return Defect(f"PostgreSQL refuses a statement of ours: SQLSTATE {state}, {type(error).__name__}")


def _of_client(error: psycopg.Error, server: str) -> Exception:
    """Of an error of the client. Its text is not shown: it may quote a DSN whose password is not where it should be."""
    name = type(error).__name__
    if isinstance(error, psycopg.DataError):  # a value that it cannot send, as a text with NUL
        return Unstorable(name)
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Defect(f"the client of PostgreSQL refuses a statement of ours: {name}")
    if any(word in str(error) for word in _OF_TLS):
        return Unavailable(
            "TLS to PostgreSQL fails: check sslrootcert, sslcert and sslkey of the DSN, that the server's certificate "
            "has the DSN's host name, and that only its owner may read the key"
        )
    answer = str(error).partition("FATAL:")[2].strip().splitlines()[:1]
    if answer:  # the server's: it may be starting, or full, which the client does not tell from a wrong password
        return Unavailable(f"PostgreSQL refuses the connection ({answer[0]})")
    why = next((ours for theirs, ours in _WHY.items() if theirs in str(error)), name)
    return Unavailable(f"PostgreSQL is not reachable{server} ({why})")
