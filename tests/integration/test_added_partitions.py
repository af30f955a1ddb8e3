"""Partitions that are added while workers run: no record of theirs is lost, no call counted twice."""

from typing import Final

import pytest
from confluent_kafka import Producer

from tests.kafka_admin import add_partitions
from tests.laws import assert_each_call_counted_once
from tests.parallel import beside_others
from tests.produce import Calls, producer_of, streaming
from tests.stack import PARTITIONS, Installation, wait_until_ready

pytestmark = pytest.mark.stack
MORE = PARTITIONS + 3
REFRESH_S: Final = 10  # topic.metadata.refresh.interval.ms of the workers
SEEN_S: Final = REFRESH_S + 10  # then the group moves, and the machine may be busy


@beside_others()
def test_partitions_added_under_load_are_counted_when_the_workers_have_looked_again(installation: Installation) -> None:
    producer = Producer(
        {
            "bootstrap.servers": installation.servers.bootstrap_servers,
            "enable.idempotence": True,
            "topic.metadata.refresh.interval.ms": 200,  # records go there at once
        }
    )
    calls = Calls(installation, seed=21, producer=producer)
    workers = [installation.start_worker() for _ in range(2)]
    with streaming(calls):
        wait_until_ready(*workers)
        installation.wait_until_counting()
        add_partitions(installation.servers.bootstrap_servers, installation.topic, MORE)
        installation.wait_until_counting(SEEN_S)
        assert installation.next_offsets().keys() == set(range(MORE))
    assert_each_call_counted_once(installation, calls.expected())
    assert all(worker.is_ready() for worker in workers)


@beside_others()
def test_added_partitions_are_read_from_their_beginning_and_a_repeat_in_another_partition_is_a_repeat(
    installation: Installation,
) -> None:
    """Where a call's record goes depends on the number of partitions: its repeats come by another way than it came."""
    calls = Calls(installation, seed=20)
    calls.produce(300)
    for _ in range(2):
        installation.start_worker()
    installation.wait_until_counted()
    before = {record.key(): record.partition() for record in installation.records(installation.topic)}

    add_partitions(installation.servers.bootstrap_servers, installation.topic, MORE)
    calls.producer = producer_of(installation)
    calls.repeat()
    calls.produce(300)
    assert_each_call_counted_once(installation, calls.expected())
    assert installation.next_offsets().keys() == set(range(MORE))
    after = {record.key(): record.partition() for record in installation.records(installation.topic)}
    assert sum(after[key] != partition for key, partition in before.items()) > 50
