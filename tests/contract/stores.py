"""Databases that a test opens several times, sets back in time, and breaks in the middle of a write."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from functools import wraps
from typing import Any, Final, Protocol
from unittest.mock import patch

import psycopg
from psycopg import sql

from processor.counting.totals import Totals
from processor.errors import Unavailable
from processor.sinks.base import Sink
from processor.sinks.memory import MemorySink
from processor.sinks.postgres.checkpoints import Checkpoints
from processor.sinks.postgres.connection import Connection
from processor.sinks.postgres.dedupe import Dedupe
from processor.sinks.postgres.write import PostgresSink
from tests.contract.stored import LOG, totals_in
from tests.snapshot import Snapshot, forget_snapshot

# Where a write of PostgreSQL's sink may break off: behind each of its steps, the last of them just before COMMIT.
COUNTED: Final = (
    "checkpoints", "usage_totals", "status_totals", "outcome_totals", "seen_calls_untimed", "seen_calls",
)  # fmt: skip

STEPS: Final = ((Checkpoints, "lock"), (Dedupe, "insert"), (Checkpoints, "advance"))


class Store(Protocol):
    """One database."""

    def open(self) -> Sink:
        """As one more process has it."""

    def totals(self) -> Totals: ...
    def remember(self) -> None:
        """This moment; the one before is forgotten."""

    def set_back(self) -> None:
        """To that moment: what came after it was never there."""

    def breaks_before_commit(self, step: int) -> AbstractContextManager[None]:
        """A context: the next write ends behind this step, and nothing of it is there."""

    def breaks_after_commit(self) -> AbstractContextManager[None]:
        """A context: the next write is there, and its owner does not learn so."""

    def close(self) -> None: ...


class MemoryStore:
    def __init__(self) -> None:
        self._sink = MemorySink()
        self._kept: MemorySink | None = None

    def open(self) -> Sink:
        return self._sink

    def totals(self) -> Totals:
        return self._sink.totals

    def remember(self) -> None:
        self._kept = deepcopy(self._sink)

    def set_back(self) -> None:
        kept = deepcopy(self._kept)
        assert kept is not None
        self._sink.totals, self._sink.checkpoints, self._sink.seen = kept.totals, kept.checkpoints, kept.seen

    @contextmanager
    def breaks_before_commit(self, step: int) -> Iterator[None]:
        self._sink.fail_at = {self._sink.writes + 1}
        yield
        self._sink.fail_at = set()

    @contextmanager
    def breaks_after_commit(self) -> Iterator[None]:
        self._sink.lose_answer_at = {self._sink.writes + 1}
        yield
        self._sink.lose_answer_at = set()

    def close(self) -> None:
        """Nothing to close."""


class PostgresStore:
    """A schema that is emptied at the beginning: cheaper than a new one."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._kept: Snapshot | None = None
        self._session = psycopg.connect(dsn, autocommit=True)
        self._session.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(map(sql.Identifier, COUNTED))))

    def open(self) -> Sink:
        return PostgresSink(lambda: self._dsn, LOG)

    def totals(self) -> Totals:
        return totals_in(self._session)

    def remember(self) -> None:
        forget_snapshot(self._dsn)
        self._kept = Snapshot(self._dsn)

    def set_back(self) -> None:
        assert self._kept is not None
        self._kept.restore()

    @contextmanager
    def breaks_before_commit(self, step: int) -> Iterator[None]:
        owner, name = STEPS[step % len(STEPS)]
        with patch.object(owner, name, breaking_off(getattr(owner, name))):
            yield

    @contextmanager
    def breaks_after_commit(self) -> Iterator[None]:
        write = PostgresSink.write

        def without_answer(sink: PostgresSink, *arguments: Any) -> None:
            write(sink, *arguments)
            raise Unavailable("told to lose the answer to COMMIT")

        with patch.object(PostgresSink, "write", without_answer):
            yield

    def close(self) -> None:
        self._session.close()


def breaking_off(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step is done; then the connection is gone, as if its process had died."""

    @wraps(step)
    def done_and_gone(of: object, connection: Connection, *arguments: Any) -> None:
        step(of, connection, *arguments)
        connection.close()
        raise Unavailable("told to die")

    return done_and_gone
