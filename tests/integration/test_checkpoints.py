"""Where counting goes on is what the checkpoints say, and only `checkpoints set` moves them."""

import pytest
from confluent_kafka import Consumer, TopicPartition

from processor.errors import ExitCode
from tests.laws import assert_each_call_counted_once, assert_totals_equal
from tests.parallel import beside_others
from tests.produce import Calls
from tests.stack import PARTITIONS, Installation, Process

pytestmark = pytest.mark.stack


def counted(installation: Installation, calls: Calls) -> Process:
    calls.produce(200)
    worker = installation.start_worker()
    installation.wait_until_counted()
    return worker


def set_to(installation: Installation, partition: int, offset: int, *more: str) -> tuple[int, str]:
    ended = installation.run("checkpoints", "set", f"--partition={partition}", f"--offset={offset}", *more)
    return ended.returncode, ended.stdout + ended.stderr


@beside_others()
def test_a_checkpoint_is_set_back_only_when_the_workers_are_stopped_and_somebody_is_sure(
    installation: Installation,
) -> None:
    calls = Calls(installation, seed=1)
    worker = counted(installation, calls)
    before = installation.next_offsets()
    code, said = set_to(installation, 1, 0, "--sure")
    assert (code, "stop all of them first" in said) == (ExitCode.PROTECT_NUMBERS, True)
    worker.stop()
    code, said = set_to(installation, 1, 0)
    assert (code, "are read again" in said, "--sure" in said) == (ExitCode.USAGE, True, True)
    assert set_to(installation, 1, before[1] + 1, "--sure")[0] == ExitCode.USAGE
    assert set_to(installation, PARTITIONS, 0, "--sure")[0] == ExitCode.USAGE
    assert installation.next_offsets() == before

    assert set_to(installation, 1, 0, "--sure")[0] == ExitCode.OK
    assert installation.next_offsets() == before | {1: 0}
    calls.produce(50)
    worker.launch()
    installation.wait_until_counted()
    assert_totals_equal(installation, calls.expected())
    [(counted_again, duplicates)] = installation.rows("SELECT counted, duplicates FROM checkpoints WHERE partition = 1")
    assert duplicates >= before[1] > 0
    assert counted_again + duplicates == installation.next_offsets()[1]


@beside_others()
def test_records_that_a_checkpoint_passes_over_are_never_counted(installation: Installation) -> None:
    calls = Calls(installation, seed=2)
    counted(installation, calls).stop()
    before = installation.next_offsets()[2]
    installation.publish([b"no call"] * 40)
    end = installation.end_offsets(installation.topic)[2]
    assert end > before
    code, said = set_to(installation, 2, end, "--sure")
    assert (code, "are passed over" in said) == (ExitCode.OK, True)
    calls.produce(50)
    installation.start_worker()
    installation.wait_until_counted()
    assert_totals_equal(installation, calls.expected())
    assert installation.rows("SELECT dead_lettered, first_offset FROM checkpoints WHERE partition = 2") == [(0, end)]


@beside_others()
def test_offsets_that_are_reset_with_the_tools_of_kafka_change_nothing(installation: Installation) -> None:
    """Not while the group is stopped, which is when Kafka's tools can."""
    calls = Calls(installation, seed=3)
    worker = counted(installation, calls)
    worker.stop()
    consumer = Consumer(
        {
            "bootstrap.servers": installation.servers.bootstrap_servers,
            "group.id": installation.name,
            "enable.auto.commit": False,
        }
    )
    places = [TopicPartition(installation.topic, partition, 0) for partition in range(PARTITIONS)]
    consumer.commit(offsets=places, asynchronous=False)
    assert [place.offset for place in consumer.committed(places, timeout=10)] == [0] * PARTITIONS
    consumer.close()
    calls.produce(50)
    worker.launch()
    assert_each_call_counted_once(installation, calls.expected())


@beside_others()
def test_checkpoints_show_one_row_a_partition(installation: Installation) -> None:
    assert installation.output("checkpoints", "show") == "no partition was ever taken\n"
    counted(installation, Calls(installation, seed=4))
    lines = installation.output("checkpoints", "show").splitlines()
    assert len(lines) == 1 + PARTITIONS
    assert installation.output("checkpoints").splitlines() == lines
