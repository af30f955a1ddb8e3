"""What the roles of workers and readers may do: schemas/postgres/grants.sql, run by the owner of the tables."""

from importlib.resources import files
from typing import Final

from processor.sinks.postgres.connection import Connection

ROLES: Final = ("call_processor_worker", "call_processor_reader")


def grant(connection: Connection) -> list[str]:
    """Give them what they need in this schema; those of ROLES that exist."""
    statements = files("processor").joinpath("schemas", "postgres", "grants.sql").read_text(encoding="utf-8")
    connection.execute(statements.encode())
    found = connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", ([*ROLES],)).fetchall()
    return sorted((role for (role,) in found), key=ROLES.index)
