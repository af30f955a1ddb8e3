"""What a fault can reach: the servers, the ways to them, and our processes."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from processor.deadline import Deadline
from processor.embedded.kafka import EmbeddedKafka
from processor.embedded.postgres import EmbeddedPostgres
from tests.chaos.fleet import Fleet, Member
from tests.proxy import Proxy
from tests.stack import Installation

CONNECT_S: Final = 2
INSIDE_WITHIN_S: Final = 3.0
TOTALS: Final = "outcome_totals"  # every batch with a call writes to it, the last of its tables but one


class Impossible(Exception):
    """There is nothing that this fault could hit now."""


@dataclass(slots=True)
class Scene:
    """`lost`: told of workers that no longer serve their partitions. Everything is used by one thread, the main one:
    children die with the thread that started them; `pool` has one thread and waits for servers."""

    kafka: EmbeddedKafka
    postgres: EmbeddedPostgres
    proxy: Proxy  # between the workers and PostgreSQL
    installation: Installation
    fleet: Fleet
    pool: ThreadPoolExecutor
    lost: Callable[[Member, str], None] = lambda *_: None
    partitions: int = 0

    def session(self) -> psycopg.Connection[Any]:
        """Directly to the server. `Impossible` if it is away."""
        try:
            session = psycopg.connect(self.installation.dsn, autocommit=True, connect_timeout=CONNECT_S)
        except psycopg.OperationalError:
            raise Impossible("PostgreSQL is away") from None
        session.execute("SET lock_timeout = '3s'")
        return session

    @contextmanager
    def worker_inside_its_transaction(self) -> Iterator[Member]:
        """A worker that waits, its checkpoints' rows locked, for a lock that is held here. `Impossible` if none comes.

        Its row names the session as its owner, and the worker's log says that the partition is its own.
        """
        with self.session() as session, session.transaction():
            try:
                session.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(sql.Identifier(TOTALS)))
                deadline = Deadline.after(INSIDE_WITHIN_S)
                while (found := self._waits_for(session)) is None:
                    if deadline.passed():
                        raise Impossible("no worker came to write")
            except psycopg.Error as error:
                raise Impossible(type(error).__name__) from None
            yield found

    def _waits_for(self, session: psycopg.Connection[Any]) -> Member | None:
        rows = session.execute(
            "SELECT partition FROM checkpoints JOIN pg_stat_activity AS activity ON activity.pid = owner_pid"
            " WHERE wait_event_type = 'Lock' AND pg_backend_pid() = ANY(pg_blocking_pids(activity.pid))"
        ).fetchall()
        waiting = {partition for (partition,) in rows}
        for worker in self.fleet.workers:
            if worker.runs and waiting & worker.partitions():
                return worker
        return None

    def start_again(self, server: EmbeddedKafka | EmbeddedPostgres) -> "Future[object]":
        """Done when clients are answered."""
        server.launch()
        return self.pool.submit(server.wait)
