"""The database is away, read-only, slow or silent while calls come in: nothing is lost, and nobody leaves the group."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from processor.deadline import Deadline
from processor.embedded.postgres import EmbeddedPostgres
from tests.group import EVENT
from tests.laws import assert_each_call_counted_once
from tests.parallel import beside_others
from tests.produce import Calls, streaming
from tests.proxy import Proxy
from tests.stack import Installation, Process, http_status, installed, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
SHORT_S: Final = 6.0
A_MINUTE_S: Final = 60.0
NOTICED_S: Final = 40.0  # the deadline of a write, 20 s, and a busy machine
RECOVERED_S: Final = 40.0  # tries are up to 5 s apart, and what has piled up must be counted
GROWTH_BYTES: Final = 64 * 2**20
SLOW_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Database:
    server: EmbeddedPostgres
    proxy: Proxy  # between it and the worker

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.server.dsn, autocommit=True) as connection:
            connection.execute(statement)


Outage = Callable[[Database], AbstractContextManager[None]]


@contextmanager
def away(database: Database) -> Iterator[None]:
    database.server.kill()
    yield
    database.server.start()


@contextmanager
def read_only(database: Database) -> Iterator[None]:
    """As after a fail-over to a server that is not promoted yet; sessions that are open see it too."""
    database.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    database.execute("SELECT pg_reload_conf()")
    yield
    with psycopg.connect(database.server.dsn, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
        connection.execute("SELECT pg_reload_conf()")


@contextmanager
def slow(database: Database) -> Iterator[None]:
    """Every statement takes so long that no batch ends within its deadline."""
    database.proxy.delay_s = SLOW_S
    yield
    database.proxy.delay_s = 0.0


@contextmanager
def silent(database: Database) -> Iterator[None]:
    """All its processes are stopped: connections stay open, new ones are accepted by the system, nobody answers."""
    assert database.server.pid is not None
    server = psutil.Process(database.server.pid)
    stopped = [server, *server.children()]
    for process in stopped:
        os.kill(process.pid, signal.SIGSTOP)
    yield
    for process in stopped:
        with suppress(ProcessLookupError):  # a session that was just ending
            os.kill(process.pid, signal.SIGCONT)


@beside_others(silent, slow, away, read_only)
def test_a_database_outage_loses_nothing_and_moves_no_partition(installation: Installation, outage: Outage) -> None:
    go_through(installation, outage, SHORT_S)


@pytest.mark.long
@beside_others(away, read_only, slow, silent)
def test_a_database_outage_of_a_minute_loses_nothing_and_moves_no_partition(
    installation: Installation, outage: Outage
) -> None:
    go_through(installation, outage, A_MINUTE_S)


def go_through(installation: Installation, outage: Outage, seconds: float) -> None:
    with EmbeddedPostgres(installation.folder / "postgres") as server:
        servers = replace(installation.servers, dsn=server.dsn)
        with installed(servers, installation.folder) as own, Proxy(urlsplit(server.dsn).netloc.split("@")[1]) as proxy:
            suffer(own, Database(server, proxy), outage, seconds)


def suffer(installation: Installation, database: Database, outage: Outage, seconds: float) -> None:
    calls = Calls(installation, seed=1)
    dsn = installation.dsn.replace(database.proxy.target, database.proxy.address)
    worker = installation.start_worker(POSTGRES__DSN=dsn)
    with streaming(calls):
        installation.wait_until_counting()
        before = rebalances(worker), memory(worker)
        installation.close_session()
        with outage(database):
            wait_until(lambda: not_ready_and_alive(worker), within_s=NOTICED_S, what="readiness says so")
            over = Deadline.after(seconds)
            wait_until(
                lambda: not_ready_and_alive(worker) and over.passed(), within_s=seconds + 10, what="the outage is over"
            )
        wait_until(worker.is_ready, within_s=RECOVERED_S, what="the worker is ready again")
        installation.wait_until_counting(RECOVERED_S)
    assert_each_call_counted_once(installation, calls.expected(), within_s=RECOVERED_S)
    assert rebalances(worker) == before[0], worker.tail()
    assert memory(worker) - before[1] < GROWTH_BYTES


def not_ready_and_alive(worker: Process) -> bool:
    assert worker.poll() is None, worker.tail()
    assert http_status(worker.admin, "/livez") == 200
    return http_status(worker.admin, "/readyz") == 503


def rebalances(worker: Process) -> int:
    return len(EVENT.findall(worker.log.read_text()))


def memory(worker: Process) -> int:
    assert worker.pid is not None
    return int(psutil.Process(worker.pid).memory_info().rss)
