"""A log may have gaps, and they are passed; the client may lose records, and they never are."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

from processor.embedded.ports import LOOPBACK, free_port
from processor.sample.oracle import Expected
from tests.group import Group
from tests.laws import assert_each_call_counted_once, assert_nothing_is_lost, assert_totals_equal
from tests.parallel import beside_others
from tests.produce import Calls
from tests.stack import Installation, Process, wait_until

pytestmark = pytest.mark.stack
SCRIPT = Path(__file__).parents[1] / "losing_worker.py"
BROKER_S = 10


def transactional(installation: Installation) -> Producer:
    """Of somebody who writes in transactions."""
    producer = Producer(
        {"bootstrap.servers": installation.servers.bootstrap_servers, "transactional.id": installation.name}
    )
    producer.init_transactions(BROKER_S)
    return producer


@contextmanager
def committed(producer: Producer) -> Iterator[None]:
    producer.begin_transaction()
    yield
    producer.commit_transaction(BROKER_S)


@contextmanager
def aborted(producer: Producer) -> Iterator[None]:
    producer.begin_transaction()
    yield
    producer.abort_transaction(BROKER_S)


def records_of(expected: Expected) -> int:
    return expected.calls + expected.duplicates


@beside_others()
def test_markers_and_aborted_records_are_gaps_of_the_log_and_the_lag_ends_at_zero(
    installation: Installation,
) -> None:
    producer = transactional(installation)
    calls, never = Calls(installation, 1, producer), Calls(installation, 2, producer)

    def produce() -> None:
        for _ in range(20):  # of so many gaps that each must not cost a reading of its own
            with committed(producer):
                calls.produce(6)
            with aborted(producer):
                never.produce(3)

    produce()
    installation.start_worker()
    produce()
    counted = installation.wait_until_counted()
    assert counted.records_read == records_of(calls.expected()) < counted.next_offset
    assert_totals_equal(installation, calls.expected())
    assert_nothing_is_lost(installation)
    ends, group = installation.end_offsets(installation.topic), Group(installation)
    wait_until(lambda: group.committed() == ends, within_s=5, what="Kafka's own lag is zero, too")


@beside_others()
def test_records_of_an_open_transaction_and_those_behind_it_wait_until_it_ends(
    installation: Installation,
) -> None:
    producer = transactional(installation)
    before, inside, behind = Calls(installation, 1), Calls(installation, 2, producer), Calls(installation, 3)
    installation.start_worker()
    before.produce(40)
    with committed(producer):
        inside.produce(40)
        behind.produce(40)
        first = records_of(before.expected())
        wait_until(lambda: records_read(installation) == first, within_s=30, what="what is stable is counted")
    installation.wait_until_counted()
    everything = [calls.expected() for calls in (before, inside, behind)]
    assert records_read(installation) == sum(map(records_of, everything))
    assert_nothing_is_lost(installation)


def records_read(installation: Installation) -> int:
    ((records,),) = installation.rows("SELECT coalesce(sum(records_read), 0) FROM checkpoints")
    return int(records)


@beside_others()
def test_records_that_the_client_loses_are_read_again_and_never_committed_over(installation: Installation) -> None:
    calls = Calls(installation, 1)
    calls.produce(400)
    ends = installation.end_offsets(installation.topic)
    worker = LosingWorker({0, 1, 17, *(end - 1 for end in ends.values())}, installation)
    worker.launch()
    assert_each_call_counted_once(installation, calls.expected())
    assert worker.log.read_text().count("lost ") >= 4 * len(ends)


class LosingWorker(Process):
    def __init__(self, offsets: set[int], installation: Installation) -> None:
        environment = installation.environment(ADMIN__LISTEN=f"{LOOPBACK}:{free_port()}")
        super().__init__([], folder=installation.folder, name="worker-that-loses", environment=environment)
        self._command = [sys.executable, "-P", str(SCRIPT), *map(str, offsets)]
        installation.processes.append(self)
