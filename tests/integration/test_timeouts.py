"""Each timeout at its border: what is within it goes on, what is beyond it ends, and neither much earlier nor later.

How they hold together is in tests/unit/test_timeouts.py, which also holds the table of docs/runbook.md to the code.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, LiteralString
from urllib.parse import urlsplit

import psycopg
import pytest

from processor.deadline import Deadline
from processor.errors import Unavailable
from processor.ingest.body import READ_TIMEOUT_S
from processor.ingest.server import HEAD_TIMEOUT_S
from processor.kafka.producer import Producer
from processor.kafka.promises import dead_letter_properties
from processor.sinks.postgres.connection import (
    CONNECT_TIMEOUT_S,
    IDLE_IN_TRANSACTION_TIMEOUT_MS,
    LOCK_TIMEOUT_MS,
    TRANSACTION_TIMEOUT_MS,
    Connection,
    connect,
    translated_errors,
)
from processor.worker.loop import DEAD_LETTER_TIMEOUT_S, SINK_DEADLINE_S
from tests.laws import assert_each_call_counted_once
from tests.parallel import beside_others
from tests.produce import Calls, streaming
from tests.proxy import Proxy
from tests.running_door import body, running
from tests.stack import Installation, assert_in_time, http_status, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
EARLY_S: Final = 0.1  # clocks of two processes, and rounding
LATE_S: Final = 3.0  # a busy machine
GRACE_S: Final = 45.0
SHORT_S: Final = 2.0
HEAD: Final = b"POST /call/end HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

CALL: Final = body()


@contextmanager
def lasts(seconds: float, late_s: float = LATE_S) -> Iterator[None]:
    began_s = time.monotonic()
    yield
    took_s = time.monotonic() - began_s
    assert seconds - EARLY_S <= took_s, f"it took {took_s:.1f} s, not {seconds} s"
    assert_in_time(took_s, seconds + late_s)


@contextmanager
def proxied(installation: Installation) -> Iterator[tuple[Proxy, str]]:
    """A proxy in front of PostgreSQL, and the DSN that leads through it."""
    address = urlsplit(installation.servers.dsn).netloc.split("@")[1]
    with Proxy(address) as proxy:
        yield proxy, installation.dsn.replace(address, proxy.address)


def session(dsn: str, within_s: float = 60) -> Connection:
    return connect(dsn, Deadline.after(within_s))


# The database


@pytest.mark.long
@beside_others()
def test_a_worker_whose_database_says_nothing_knows_it_at_its_deadline_and_stops_within_its_grace(
    installation: Installation,
) -> None:
    """Under load. Were it to wait longer, Kubernetes would kill it; it may be killed, but then others wait for its
    session."""
    calls = Calls(installation, seed=1)
    with proxied(installation) as (proxy, dsn), streaming(calls):
        worker = installation.start_worker(POSTGRES__DSN=dsn)
        installation.wait_until_counting()
        proxy.hang()
        began_s = time.monotonic()
        wait_until(
            lambda: alive(worker.admin) and http_status(worker.admin, "/readyz") == 503,
            within_s=SINK_DEADLINE_S + CONNECT_TIMEOUT_S + LATE_S,
            what="it cannot write",
        )
        assert time.monotonic() - began_s >= SINK_DEADLINE_S - 1 - EARLY_S  # a write may have begun a moment before
        worker.ask_to_stop()
        wait_until(lambda: worker.poll() is not None, within_s=GRACE_S, what="it has stopped")
        assert worker.poll() == 0
    installation.start_worker()
    assert_each_call_counted_once(installation, calls.expected())


def alive(admin: str) -> bool:
    assert http_status(admin, "/livez") == 200
    return True


@pytest.mark.long
@beside_others()
def test_a_transaction_ends_at_its_timeout(installation: Installation) -> None:
    seconds = TRANSACTION_TIMEOUT_MS / 1000
    with session(installation.dsn) as connection, lasts(seconds), pytest.raises(Unavailable, match="25P04"):
        run(connection, "BEGIN", "SELECT pg_sleep(60)")


@beside_others()
def test_a_transaction_that_rests_ends_at_its_timeout_and_its_locks_are_free(installation: Installation) -> None:
    with session(installation.dsn) as connection, psycopg.connect(installation.dsn) as other:
        run(connection, "BEGIN", "LOCK checkpoints")
        with lasts(IDLE_IN_TRANSACTION_TIMEOUT_MS / 1000):
            other.execute("LOCK checkpoints")
        with pytest.raises(Unavailable):
            run(connection, "SELECT 1")


@beside_others()
def test_a_server_that_accepts_and_says_nothing_is_given_up_at_the_timeout_of_a_connect(
    installation: Installation,
) -> None:
    with proxied(installation) as (proxy, dsn):
        proxy.hang()
        with lasts(CONNECT_TIMEOUT_S), pytest.raises(Unavailable):
            session(dsn)


@beside_others()
def test_a_lock_is_waited_for_until_its_timeout(installation: Installation) -> None:
    with session(installation.dsn) as connection, psycopg.connect(installation.dsn) as other:
        other.execute("LOCK checkpoints")
        with lasts(LOCK_TIMEOUT_MS / 1000), pytest.raises(Unavailable, match="55P03"):
            run(connection, "BEGIN", "LOCK checkpoints")
        other.rollback()
        run(connection, "ROLLBACK", "BEGIN", "LOCK checkpoints")


@beside_others()
def test_a_server_that_stops_answering_is_given_up_at_the_deadline(installation: Installation) -> None:
    with proxied(installation) as (proxy, dsn):
        connection = session(dsn)
        connection.deadline = Deadline.after(SHORT_S)
        proxy.hang()
        with lasts(SHORT_S), pytest.raises(Unavailable, match="before the deadline"):
            run(connection, "SELECT 1")
        connection.close()


def run(connection: Connection, *statements: LiteralString) -> None:
    with translated_errors():
        for statement in statements:
            connection.execute(statement)


# The brokers


@pytest.mark.long
def test_dead_letters_that_nobody_acknowledges_are_given_up_at_their_timeout() -> None:
    give_up_dead_letters(DEAD_LETTER_TIMEOUT_S)


def test_dead_letters_that_nobody_acknowledges_are_given_up_in_time() -> None:
    give_up_dead_letters(SHORT_S)


def give_up_dead_letters(timeout_s: float) -> None:
    """By the producer, a second before whoever waits for them would: so their fate is known."""
    nobody = {"bootstrap.servers": "127.0.0.1:1", "log_level": "0"}
    producer = Producer(dead_letter_properties(nobody, ack_timeout_s=timeout_s))
    with lasts(timeout_s - 1), pytest.raises(Unavailable):
        producer.publish_all([("letters", b"key", b"value", ())], timeout_s)
    producer.close(0)


# The door


@pytest.mark.long
def test_a_body_has_as_long_as_it_is_said() -> None:
    with running() as door, door.raw() as in_time, door.raw() as late:
        for client in (in_time, late):
            client.settimeout(READ_TIMEOUT_S + 10)
            client.sendall(HEAD % len(CALL) + CALL[:-1])
        began_s = time.monotonic()
        wait_until(lambda: time.monotonic() - began_s > READ_TIMEOUT_S - 1, within_s=20, what="it is nearly over")
        in_time.sendall(CALL[-1:])
        assert in_time.recv(100).startswith(b"HTTP/1.1 200 ")
        assert late.recv(100).startswith(b"HTTP/1.1 408 ")
        took_s = time.monotonic() - began_s
        assert took_s >= READ_TIMEOUT_S - EARLY_S
        assert_in_time(took_s, READ_TIMEOUT_S + LATE_S)


@pytest.mark.long
def test_a_head_has_as_long_as_it_is_said() -> None:
    with running() as door, door.raw() as in_time, door.raw() as late:
        for client in (in_time, late):
            client.settimeout(HEAD_TIMEOUT_S + 10)
            client.sendall((HEAD % len(CALL))[:-2])
        began_s = time.monotonic()
        wait_until(lambda: time.monotonic() - began_s > HEAD_TIMEOUT_S - 1, within_s=20, what="it is nearly over")
        in_time.sendall(b"\r\n" + CALL)
        assert in_time.recv(100).startswith(b"HTTP/1.1 200 ")
        assert late.recv(100) == b""
        took_s = time.monotonic() - began_s
        assert took_s >= HEAD_TIMEOUT_S - EARLY_S
        assert_in_time(took_s, HEAD_TIMEOUT_S + LATE_S)
