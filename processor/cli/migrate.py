"""`call-processor migrate`: bring the database's schema to this version."""

import typer

from processor import config
from processor.cli.answering import answering
from processor.deadline import Deadline
from processor.sinks.postgres.migrate import migrate

DEADLINE_S = 600.0  # another migration may hold the lock, and a large table may take its time


def run() -> None:
    """Apply the SQL files that the database does not have yet, and grant what the roles need, all or nothing."""
    with answering():
        done = migrate(config.load().dsn(), Deadline.after(DEADLINE_S))
    lines = [*(f"applied {name}" for name in done.applied), *(f"granted to {role}" for role in done.granted)]
    typer.echo("\n".join(lines) or "migrate: nothing to do")
