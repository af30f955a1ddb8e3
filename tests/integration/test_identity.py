"""The offsets belong to one log: another one is refused under any name, and counted from only when somebody says so."""

import time
from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient

from processor.batch import partition_of
from processor.embedded.kafka import EmbeddedKafka
from processor.errors import ExitCode
from processor.kafka.topics import Topics
from processor.sample import stored
from tests.group import assigned, member
from tests.laws import assert_each_call_counted_once, assert_nothing_is_lost, assert_totals_equal
from tests.parallel import Run, Runs, beside_others, under_both_protocols
from tests.produce import Calls, producer_of, streaming
from tests.proxy import Proxy
from tests.stack import PARTITIONS, START_TIMEOUT_S, Installation, Process, assert_in_time, installed, wait_until

pytestmark = pytest.mark.stack
BROKER_S = 10
NOTICED_S = 15.0  # it is asked for every 5 s; the rest is for a busy machine


def refusal(worker: Process, within_s: float = START_TIMEOUT_S) -> str:
    """What it says last, when it stops to protect the numbers."""
    code, sentence = worker.ended(within_s)
    assert code == ExitCode.PROTECT_NUMBERS, worker.tail()
    return sentence


def adopt(installation: Installation, *arguments: str, **settings: str) -> tuple[int | None, str]:
    return installation.start("checkpoints", "adopt", *arguments, **settings).ended()


def topic_id(installation: Installation) -> str:
    return Topics({"bootstrap.servers": installation.servers.bootstrap_servers}).describe(installation.topic).topic_id


def create_again(installation: Installation) -> None:
    """The topic of calls, with nothing in it."""
    admin = AdminClient({"bootstrap.servers": installation.servers.bootstrap_servers})
    admin.delete_topics([installation.topic])[installation.topic].result(BROKER_S)
    wait_until(installation.create_topics, within_s=BROKER_S, what="the topic is deleted, and created again")


def copy(records: Sequence[Message], installation: Installation) -> None:
    """The same records in the same partitions, at the same offsets."""
    producer = producer_of(installation)
    for record in records:
        producer.produce(installation.topic, record.value(), record.key(), partition=partition_of(record))
    assert producer.flush(BROKER_S) == 0


def identities(installation: Installation) -> set[tuple[str, str]]:
    """Topic ids and consumer groups that the checkpoints belong to."""
    return {
        (topic_id, group) for topic_id, group in installation.rows("SELECT topic_id, consumer_group FROM checkpoints")
    }


def stop(*workers: Process) -> None:
    for worker in workers:
        worker.stop()
        assert worker.poll() == ExitCode.OK


@beside_others()
def test_another_cluster_behind_the_same_address_is_refused_until_it_is_adopted(installation: Installation) -> None:
    folder, second = installation.folder / "moving", installation.servers
    with (
        EmbeddedKafka(folder / "first") as first,
        Proxy(first.bootstrap_servers) as address,
        installed(replace(second, bootstrap_servers=address.address), folder) as moving,
    ):
        calls = Calls(moving, 1)
        worker = moving.start_worker()
        calls.produce(60)
        moving.wait_until_counted()
        first.kill()
        address.target = second.bootstrap_servers
        moving.create_topics()
        calls.producer = producer_of(moving)
        calls.repeat()
        calls.produce(60)

        assert "another cluster answers" in refusal(worker, NOTICED_S)
        assert "these totals were counted from another cluster" in refusal(moving.start_worker())
        assert adopt(moving, "--offsets", "restart")[0] == ExitCode.OK
        moving.start_worker()
        moving.wait_until_counted()
        assert_totals_equal(moving, calls.expected())
        assert_nothing_is_lost(moving)


def created_again(installation: Installation, protocol: str) -> float:
    settings = member(installation.folder, protocol, "worker")
    calls, old_id = Calls(installation, 3), topic_id(installation)
    worker = installation.start_worker(**settings)
    calls.produce(60)
    installation.wait_until_counted()
    create_again(installation)
    calls.produce(200)  # every partition grows past its stored offset
    new_id, began_s = topic_id(installation), time.monotonic()
    said = refusal(worker, NOTICED_S)
    seconds = time.monotonic() - began_s
    assert f"deleted and created again (its id is {new_id}, it was {old_id})" in said
    assert "`call-processor checkpoints adopt`" in said
    assert adopt(installation, "--offsets", "restart")[0] == ExitCode.OK
    installation.start_worker(**settings)
    installation.wait_until_counted()
    assert calls.expected().conflicts == 0  # for some seconds the log's end was counted, before its beginning
    assert_totals_equal(installation, calls.expected())
    assert_nothing_is_lost(installation)
    return seconds


@under_both_protocols(created_again)
def test_a_topic_that_is_created_again_stops_the_worker_that_reads_it_and_goes_on_when_it_is_adopted(
    runs: Runs, run: Run
) -> None:
    assert_in_time(runs[run].result(), NOTICED_S)


@beside_others()
def test_a_topic_that_was_created_again_meanwhile_is_refused_and_its_repeats_are_duplicates_once_it_is_adopted(
    installation: Installation,
) -> None:
    calls, old_id = Calls(installation, 1), topic_id(installation)
    worker = installation.start_worker()
    calls.produce(60)
    installation.wait_until_counted()
    stop(worker)
    before = calls.expected()
    create_again(installation)
    calls.repeat()
    calls.produce(60)

    said = refusal(installation.start_worker())
    assert f"another topic of this name ({old_id}) than this one ({topic_id(installation)})" in said
    assert "`call-processor checkpoints adopt`" in said
    code, said = adopt(installation)
    assert (code, "--offsets keep|restart" in said) == (ExitCode.USAGE, True)
    assert identities(installation) == {(old_id, installation.name)}  # that has changed nothing

    assert adopt(installation, "--offsets", "restart")[0] == ExitCode.OK
    installation.start_worker()
    after = installation.wait_until_counted()
    assert_totals_equal(installation, calls.expected())
    assert_nothing_is_lost(installation)
    assert after.counted == calls.expected().calls - before.calls
    assert after.counted + after.duplicates == after.records_read
    verified = installation.run("verify")
    assert (verified.returncode, verified.stderr) == (ExitCode.OK, ""), verified.stdout
    assert "not covered: the totals hold calls of a log that was given up" in verified.stdout


@beside_others()
def test_a_copy_of_the_log_record_by_record_is_gone_on_with_where_the_offsets_are_when_they_are_kept(
    installation: Installation,
) -> None:
    calls = Calls(installation, 1)
    worker = installation.start_worker()
    calls.produce(60)
    installation.wait_until_counted()
    stop(worker)
    records = installation.records(installation.topic)
    create_again(installation)
    copy(records, installation)
    calls.produce(60)

    assert adopt(installation, "--offsets", "keep")[0] == ExitCode.OK
    installation.start_worker()
    assert_each_call_counted_once(installation, calls.expected())
    assert identities(installation) == {(topic_id(installation), installation.name)}


@beside_others()
def test_second_deployments_on_the_same_tables_are_refused_under_load_and_the_first_one_counts_on(
    installation: Installation,
) -> None:
    calls, other = Calls(installation, 1), Installation(installation.servers, installation.folder)
    other.create_topics()
    worker = installation.start_worker()
    with streaming(calls):
        installation.wait_until_counting()
        of_another_group = installation.start_worker(KAFKA__GROUP=other.name)
        of_another_topic = installation.start_worker(KAFKA__TOPIC=other.topic)
        assert f"another consumer group ({installation.name}) than this one ({other.name})" in refusal(of_another_group)
        assert f"another topic ({installation.topic}) than this one ({other.topic})" in refusal(of_another_topic)
        installation.wait_until_counting()
    assert_each_call_counted_once(installation, calls.expected())
    assert worker.is_ready()


@beside_others()
def test_another_group_is_refused_until_it_adopts_the_offsets_and_then_the_first_one_is(
    installation: Installation,
) -> None:
    calls, other = Calls(installation, 1), {"KAFKA__GROUP": f"{installation.name}-2"}
    worker = installation.start_worker()
    calls.produce(60)
    installation.wait_until_counted()
    stop(worker)
    said = refusal(installation.start_worker(**other))
    assert f"another consumer group ({installation.name}) than this one ({installation.name}-2)" in said
    assert (
        adopt(installation, "--offsets", "restart", **other)[0] == ExitCode.OK
    )  # the log is the same: nothing restarts
    calls.produce(60)
    installation.start_worker(**other)
    assert_each_call_counted_once(installation, calls.expected())
    assert f"another consumer group ({installation.name}-2)" in refusal(installation.start_worker())


@beside_others()
def test_another_deployment_in_the_same_group_with_tables_of_its_own_takes_partitions_away_and_mixes_nothing(
    installation: Installation,
) -> None:
    """Staging with a database of its own, and the group of production: each counts what it gets, where it left off."""
    calls = Calls(installation, 1)
    elsewhere = Installation(installation.servers, installation.folder, name=f"{installation.name}-2")
    elsewhere.create()
    ours = installation.start_worker()
    wait_until(lambda: len(assigned(ours)) == PARTITIONS, within_s=START_TIMEOUT_S, what="all is ours")
    theirs = installation.start_worker(POSTGRES__DSN=elsewhere.dsn)
    wait_until(lambda: len(assigned(theirs)) == PARTITIONS / 2, within_s=START_TIMEOUT_S, what="half is theirs")
    calls.produce(100)
    ends = installation.end_offsets(installation.topic)
    kept = {partition: ends[partition] for partition in assigned(ours)}
    taken = {partition: ends[partition] for partition in assigned(theirs)}
    wait_until(lambda: counted_of(installation, kept) == kept, within_s=30, what="our half is counted")
    wait_until(lambda: counted_of(elsewhere, taken) == taken, within_s=30, what="their half is counted")
    assert not any(counted_of(installation, taken).values()), "and shows as lag of ours"

    stop(theirs)
    assert_each_call_counted_once(installation, calls.expected())
    stop(ours)
    theirs.launch()
    wait_until(lambda: elsewhere.next_offsets() == ends, within_s=30, what="all is counted elsewhere, too")
    assert_totals_equal(elsewhere, calls.expected())
    elsewhere.close()


def counted_of(installation: Installation, partitions: Collection[int]) -> dict[int, int]:
    offsets = installation.next_offsets()
    return {partition: offsets.get(partition, 0) for partition in partitions}


@beside_others()
def test_another_topic_is_refused_the_same_tables_until_it_adopts_them(installation: Installation) -> None:
    """Staging and production in one database by mistake: never mixed."""
    calls = Calls(installation, 1)
    worker = installation.start_worker()
    calls.produce(60)
    installation.wait_until_counted()
    stop(worker)
    renamed = Installation(installation.servers, installation.folder, name=f"{installation.name}-2")
    renamed.create_topics()
    other = {"KAFKA__TOPIC": renamed.topic}
    said = refusal(installation.start_worker(**other))
    assert f"another topic ({installation.topic}) than this one ({renamed.topic})" in said
    assert "a schema of its own" in said
    copy(installation.records(installation.topic), renamed)
    assert adopt(installation, "--offsets", "keep", **other)[0] == ExitCode.OK
    installation.start_worker(**other)
    more = Calls(renamed, 2)
    more.produce(60)
    renamed_ends = installation.end_offsets(renamed.topic)
    wait_until(lambda: installation.next_offsets() == renamed_ends, within_s=30, what="the copy is counted to its end")
    assert f"another topic ({renamed.topic})" in refusal(installation.start_worker())
    assert stored.counters(installation.dsn, renamed.topic).counted == calls.expected().calls + more.expected().calls
