"""Assignments come and go while the database is away: nothing is read too early, no partition is forgotten.

The group's callbacks must work without the database; it is reached, or not, through a proxy.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from random import Random
from typing import Final
from urllib.parse import urlsplit

import pytest

from processor.deadline import Deadline
from tests.group import PROTOCOLS, Group, assigned, member, metric
from tests.laws import assert_each_call_counted_once
from tests.parallel import Run, Runs, selected_runs, under_both_protocols
from tests.produce import Calls, streaming
from tests.proxy import Proxy
from tests.stack import LOOK_EVERY_S, PARTITIONS, Installation, Late, Process, Servers, wait_until, wait_until_ready

pytestmark = pytest.mark.stack
ALL: Final = set(range(PARTITIONS))
PATIENCE_S: Final = 30.0
TRIES: Final = 3


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with selected_runs(request, servers, tmp_path_factory) as runs:
        yield runs


def assigned_without_database(installation: Installation, protocol: str) -> float:
    calls, group = Calls(installation, seed=4), Group(installation)
    with database_of(installation) as database:
        first = start_worker(installation, protocol, "first")
        second = start_worker(installation, protocol, "second", database)
        wait_until_ready(first, second)
        wait_until_assigned({first: 2, second: 2})
        calls.produce(200)
        installation.wait_until_counted()
        before = installation.next_offsets()
        wait_until(lambda: group.committed() == before, within_s=PATIENCE_S, what="Kafka has been told")
        database.cut()
        first.stop()
        wait_until_assigned({second: 4})
        calls.produce(200)
        wait_until_tried(second, TRIES)
        assert (installation.next_offsets(), group.committed()) == (before, before)
        database.resume()
        return seconds_until_all_is_counted(installation, calls)


def revoked_without_database(installation: Installation, protocol: str) -> float:
    return revoked_while(Proxy.cut, installation, protocol)


def revoked_while_the_database_is_silent(installation: Installation, protocol: str) -> float:
    return revoked_while(Proxy.hang, installation, protocol)


def revoked_while(goes_away: Callable[[Proxy], None], installation: Installation, protocol: str) -> float:
    calls = Calls(installation, seed=5)
    with database_of(installation) as database:
        first = start_worker(installation, protocol, "first", database)
        wait_until_ready(first)
        wait_until_assigned({first: 4})
        calls.produce(200)
        installation.wait_until_counted()
        before = installation.next_offsets()
        goes_away(database)
        calls.produce(200)
        wait_until_tried(first, 1)
        second = start_worker(installation, protocol, "second")
        wait_until_assigned({first: 2, second: 2})
        ends = installation.end_offsets(installation.topic)
        half = {partition: (ends if partition in assigned(second) else before)[partition] for partition in ends}
        wait_until(
            lambda: installation.next_offsets() == half,
            within_s=PATIENCE_S,
            what="the second worker, and it alone, has counted its half",
        )
        database.resume()
        return seconds_until_all_is_counted(installation, calls)


def storm(installation: Installation, protocol: str) -> float:
    """Four times a worker goes while the database is away; at some moment of its return the database is away again."""
    r = Random(PROTOCOLS.index(protocol))
    calls = Calls(installation, seed=6)
    with database_of(installation) as database:
        workers = [start_worker(installation, protocol, name, database) for name in ("one", "two", "three")]
        wait_until_ready(*workers)
        with streaming(calls):
            for _ in range(4):
                wait_until(lambda: len(members(workers)) > 1, within_s=PATIENCE_S, what="the group has two members")
                gone = r.choice(members(workers))
                database.cut()
                gone.stop()
                wait_until(
                    lambda: set().union(*map(assigned, workers)) == ALL, within_s=PATIENCE_S, what="all is assigned"
                )
                database.resume()
                gone.launch()
                wait_until_moment(time.monotonic() + r.uniform(0, 4))
                r.choice([database.cut, database.hang])()
                wait_until_moment(time.monotonic() + r.uniform(0.5, 2))
                database.resume()
                start_what_ended(workers)
        seconds = seconds_until_all_is_counted(installation, calls)
        start_what_ended(workers)
    return seconds


@under_both_protocols(revoked_while_the_database_is_silent)
def test_a_database_that_says_nothing_does_not_keep_partitions_from_moving(runs: Runs, run: Run) -> None:
    runs[run].result()


@under_both_protocols(storm)
def test_after_a_storm_of_assignments_and_outages_every_partition_is_read_to_its_end(runs: Runs, run: Run) -> None:
    runs[run].result()


@under_both_protocols(assigned_without_database)
def test_nothing_is_read_or_committed_before_the_sink_has_given_the_partition(runs: Runs, run: Run) -> None:
    runs[run].result()


@under_both_protocols(revoked_without_database)
def test_what_a_worker_cannot_write_is_counted_by_the_one_that_gets_its_partitions(runs: Runs, run: Run) -> None:
    runs[run].result()


def database_of(installation: Installation) -> Proxy:
    return Proxy(urlsplit(installation.servers.dsn).netloc.rpartition("@")[2])


def start_worker(installation: Installation, protocol: str, name: str, database: Proxy | None = None) -> Process:
    dsn = installation.dsn if database is None else installation.dsn.replace(database.target, database.address)
    return installation.start_worker(POSTGRES__DSN=dsn, **member(installation.folder, protocol, name))


def start_what_ended(workers: Iterable[Process]) -> None:
    """A worker that finds no database at its start ends with 3; nothing else may end one."""
    for worker in workers:
        if worker.poll() is not None:
            assert worker.poll() == 3, f"{worker.poll()}: {worker.tail()}"
            worker.launch()


def members(workers: Iterable[Process]) -> list[Process]:
    return [worker for worker in workers if assigned(worker)]


def wait_until_assigned(sizes: Mapping[Process, int]) -> None:
    """By worker, how many partitions it is given."""
    deadline = Deadline.after(PATIENCE_S)
    while [len(assigned(worker)) for worker in sizes] != [*sizes.values()]:
        found = {worker.name: assigned(worker) for worker in sizes}
        if deadline.passed():
            raise Late(f"after {PATIENCE_S} s {found} are assigned, not {[*sizes.values()]}")
        time.sleep(LOOK_EVERY_S)


def wait_until_tried(worker: Process, times: int) -> None:
    """So many tries more have failed."""
    least = metric(worker, "unavailable_total") + times
    wait_until(
        lambda: metric(worker, "unavailable_total") >= least, within_s=PATIENCE_S, what=f"{least} tries have failed"
    )


def wait_until_moment(at_s: float) -> None:
    wait_until(lambda: time.monotonic() >= at_s, within_s=PATIENCE_S, what="the moment has come")


def seconds_until_all_is_counted(installation: Installation, calls: Calls) -> float:
    began_s = time.monotonic()
    assert_each_call_counted_once(installation, calls.expected(), within_s=PATIENCE_S)
    return time.monotonic() - began_s
