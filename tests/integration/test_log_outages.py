"""The log is away, or not as it was: what can go on goes on, and what cannot be right stops with one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from processor.deadline import Deadline
from processor.embedded.kafka import EmbeddedKafka
from processor.errors import ExitCode
from processor.kafka.topics import MIB, TopicSpec
from processor.sample.oracle import Expected, added
from tests.laws import assert_each_call_counted_once, assert_totals_equal
from tests.parallel import beside_others
from tests.produce import Calls
from tests.second_node import NODE, second_node
from tests.stack import PARTITIONS, Installation, Process, frozen, http_status, installed, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
ANSWER_S: Final = 10.0
SHORT_S: Final = 5.0
A_MINUTE_S: Final = 60.0
ON_THE_SECOND: Final = 1  # the partition that lives on the second node alone
LOST: Final = 2  # the partition whose log is not as it was
OTHERS: Final = [partition for partition in range(PARTITIONS) if partition != ON_THE_SECOND]


def refusal(worker: Process) -> str:
    code, sentence = worker.ended()
    assert code == ExitCode.PROTECT_NUMBERS, worker.tail()
    return sentence


def counted(installation: Installation) -> int:
    ((records,),) = installation.rows("SELECT coalesce(sum(records_read), 0) FROM checkpoints")
    return int(records)


def wait_until_all_is_counted(installation: Installation, calls: Calls) -> None:
    """By the number of records: the broker cannot tell the end of a partition that nobody leads."""
    wait_until(lambda: counted(installation) == calls.produced, within_s=30, what=f"{calls.produced} are counted")


# Brokers that are away


@beside_others()
def test_a_partition_without_a_leader_waits_and_all_others_are_counted(installation: Installation) -> None:
    with two_nodes(installation) as (second, own):
        calls = Calls(own, 1)
        worker = own.start_worker()
        calls.produce(100)
        wait_until_all_is_counted(own, calls)
        second.kill()
        wait_until(lambda: ON_THE_SECOND not in led(own), within_s=15, what="the partition has no leader")
        calls.only = OTHERS
        calls.produce(100)
        wait_until_all_is_counted(own, calls)

        worker.stop()  # one that starts now finds it so
        worker.launch()
        calls.produce(100)
        wait_until_all_is_counted(own, calls)
        assert "partitions without a leader wait" in worker.log.read_text()

        second.start()
        wait_until(lambda: ON_THE_SECOND in led(own), within_s=15, what="the partition is led again")
        calls.only = [ON_THE_SECOND]
        calls.produce(100)
        wait_until_all_is_counted(own, calls)
        assert_each_call_counted_once(own, calls.expected())
        assert worker.is_ready()


def has_a_group(consumer: Consumer, topic: str) -> bool:
    """A node that has just made the topic of groups is no coordinator for a moment."""
    try:
        consumer.committed([TopicPartition(topic, 0)], timeout=ANSWER_S)
    except KafkaException:
        return False
    return True


@contextmanager
def two_nodes(installation: Installation) -> Iterator[tuple[EmbeddedKafka, Installation]]:
    with EmbeddedKafka(installation.folder / "first") as first:
        own = Installation(
            replace(installation.servers, bootstrap_servers=first.bootstrap_servers), installation.folder
        )
        consumer = Consumer({"bootstrap.servers": first.bootstrap_servers, "group.id": "any"})
        # Groups live on the first node, as there is no other yet.
        wait_until(lambda: has_a_group(consumer, own.topic), within_s=2 * ANSWER_S, what="the node has groups")
        consumer.close()
        with second_node(first, installation.folder / "second") as second:
            make_topics(own)
            own.create()
            try:
                yield second, own
            finally:
                own.close()


def make_topics(installation: Installation) -> None:
    admin = AdminClient({"bootstrap.servers": installation.servers.bootstrap_servers})
    calls = TopicSpec(installation.topic, PARTITIONS, 1, retention_days=7, max_message_bytes=8 * MIB)
    letters = TopicSpec(installation.dead_letter_topic, 1, 1, retention_days=30, max_message_bytes=9 * MIB)
    for spec in (calls, letters):
        nodes = [[NODE if p == ON_THE_SECOND and spec is calls else 1] for p in range(spec.partitions)]
        topic = NewTopic(spec.name, spec.partitions, replica_assignment=nodes, config=spec.config())
        admin.create_topics([topic])[spec.name].result(ANSWER_S)
    wait_until(lambda: len(led(installation)) == PARTITIONS, within_s=ANSWER_S, what="all partitions have leaders")


def led(installation: Installation) -> set[int]:
    admin = AdminClient({"bootstrap.servers": installation.servers.bootstrap_servers})
    partitions = admin.list_topics(installation.topic, timeout=ANSWER_S).topics[installation.topic].partitions
    return {number for number, partition in partitions.items() if partition.leader >= 0}


def seconds_of(seconds: float, worker: Process) -> None:
    over = Deadline.after(seconds)

    def over_and_alive() -> bool:
        assert worker.poll() is None, worker.tail()
        assert http_status(worker.admin, "/livez") == 200
        return over.passed()

    wait_until(over_and_alive, within_s=seconds + 10, what="the time is over")


def go_through_broker_outage(installation: Installation, seconds: float) -> None:
    with EmbeddedKafka(installation.folder / "kafka") as kafka:
        servers = replace(installation.servers, bootstrap_servers=kafka.bootstrap_servers)
        with installed(servers, installation.folder) as own:
            calls = Calls(own, 1)
            worker = own.start_worker()
            calls.produce(100)
            own.wait_until_counted()
            calls.produce(2000)  # some of it is not read yet
            kafka.kill()
            seconds_of(seconds, worker)
            kafka.start()
            calls.produce(100)
            assert_each_call_counted_once(own, calls.expected(), within_s=60)
            assert worker.is_ready()


@beside_others()
def test_a_broker_outage_is_waited_for(installation: Installation) -> None:
    go_through_broker_outage(installation, SHORT_S)


@pytest.mark.long
@beside_others()
def test_a_broker_outage_of_a_minute_is_waited_for(installation: Installation) -> None:
    go_through_broker_outage(installation, A_MINUTE_S)


# Offsets that the log does not have


def delete_records(installation: Installation) -> None:
    """All that are there now, as retention does."""
    admin = AdminClient({"bootstrap.servers": installation.servers.bootstrap_servers})
    ends = installation.end_offsets(installation.topic)
    places = [TopicPartition(installation.topic, partition, end) for partition, end in ends.items()]
    for deleted in admin.delete_records(places).values():
        deleted.result(ANSWER_S)


def stopped_after_some_calls(installation: Installation) -> tuple[Calls, Process]:
    calls = Calls(installation, 1)
    worker = installation.start_worker()
    calls.produce(100)
    installation.wait_until_counted()
    worker.stop()
    return calls, worker


@beside_others()
def test_records_that_retention_deleted_before_they_were_counted_stop_the_worker(installation: Installation) -> None:
    calls, worker = stopped_after_some_calls(installation)
    before = calls.expected()
    calls.only = [LOST]
    calls.produce(100)
    delete_records(installation)
    worker.launch()
    assert "records were deleted before they were counted" in refusal(worker)

    go_on_at_the_end(installation, LOST)
    later = Calls(installation, 2)
    later.produce(100)
    worker.launch()
    installation.wait_until_counted()
    assert_totals_equal(installation, both(before, later.expected()))


@beside_others()
def test_records_that_are_deleted_in_front_of_a_running_worker_stop_it(installation: Installation) -> None:
    calls = Calls(installation, 1)
    worker = installation.start_worker()
    calls.produce(100)
    installation.wait_until_counted()
    with frozen(worker):
        calls.produce(100)
        delete_records(installation)
    assert "records may be lost" in refusal(worker)


@beside_others()
def test_a_log_that_ends_before_what_was_counted_stops_the_worker(installation: Installation) -> None:
    """Brokers that elected a leader without all acknowledged records have lost their tail."""
    calls, worker = stopped_after_some_calls(installation)
    with psycopg.connect(installation.dsn) as connection:
        connection.execute(
            "UPDATE checkpoints SET next_offset = next_offset + 9, gap_offsets = gap_offsets + 9 WHERE partition = %s",
            [LOST],
        )
    worker.launch()
    assert "the log lost records, or is another one" in refusal(worker)

    go_on_at_the_end(installation, LOST)
    calls.produce(100)
    worker.launch()
    installation.wait_until_counted()
    assert_totals_equal(installation, calls.expected())


def go_on_at_the_end(installation: Installation, partition: int) -> None:
    """As the runbook says, with the workers stopped."""
    end = installation.end_offsets(installation.topic)[partition]
    installation.output("checkpoints", "set", "--partition", str(partition), "--offset", str(end), "--sure")


def both(one: Expected, other: Expected) -> Expected:
    """Of calls that have none in common."""
    return replace(one, tables=added(one.tables, other.tables))
