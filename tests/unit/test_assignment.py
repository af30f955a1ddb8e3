import random
from dataclasses import replace

import pytest

from processor.batch import PartitionBuffer, Reading
from processor.errors import ExitCode, Stop
from processor.sinks.base import Checkpoint
from processor.worker.assignment import Assignment, Owned, Verdict
from tests.factories import FakeRecord

MINE = Checkpoint(epoch=5, next_offset=100, first_offset=0, records_read=100, counted=100)


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def owning(clock: Clock, *partitions: int) -> Assignment:
    assignment = Assignment(clock, random.Random(1))
    assignment.assigned(partitions)
    for partition in partitions:
        assignment.took(partition, MINE)
    return assignment


@pytest.mark.parametrize(
    ("stored", "verdict"),
    [
        (MINE, Verdict.UNCHANGED),
        (replace(MINE, next_offset=120), Verdict.COMMITTED),
        (replace(MINE, next_offset=115), Verdict.COMMITTED),  # an earlier try, whose commit took its time
        (replace(MINE, next_offset=110), Verdict.NONSENSE),
        (replace(MINE, next_offset=99), Verdict.SET_BACK),
        (replace(MINE, epoch=4), Verdict.SET_BACK),
        (replace(MINE, epoch=4, next_offset=120), Verdict.SET_BACK),
        (None, Verdict.SET_BACK),
        (replace(MINE, epoch=6), Verdict.OTHER_OWNER),
        (replace(MINE, epoch=6, next_offset=99), Verdict.OTHER_OWNER),
    ],
)
def test_a_row_that_is_not_as_we_left_it_has_one_of_four_causes(stored: Checkpoint | None, verdict: Verdict) -> None:
    assert Owned(MINE, PartitionBuffer(100), attempted_ends={115, 120}).judge(stored) is verdict


def test_an_assigned_partition_is_to_be_taken_and_a_revoked_one_is_not() -> None:
    assignment = Assignment(Clock())
    assert not assignment.joined
    assignment.assigned([1, 2])
    assignment.revoked([2])
    assert assignment.due() == {1: 0}
    assert assignment.joined


def test_a_partition_that_is_assigned_again_must_be_taken_again() -> None:
    assignment = owning(Clock(), 1)
    assignment.assigned([1])
    assert assignment.owned == {}
    assert assignment.due() == {1: 0}


def test_records_of_a_partition_that_was_revoked_in_the_same_call_are_dropped() -> None:
    assignment = owning(Clock(), 1, 2)
    assignment.revoked([2])
    assignment.accept(Reading([FakeRecord(100, of=1), FakeRecord(100, of=2), FakeRecord(7, of=3)], {2: 101}))
    assert assignment.unwritten() == 1


def test_behind_a_hole_nothing_is_taken_until_it_was_read_again() -> None:
    assignment = owning(Clock(), 1, 2)
    records = [FakeRecord(100, of=1), FakeRecord(103, of=1), FakeRecord(104, of=1), FakeRecord(100, of=2)]
    assert assignment.accept(Reading(records, {1: 105})) == {1: 101}
    assert assignment.unwritten() == 2


def test_forgotten_buffers_are_read_again_from_their_checkpoints() -> None:
    assignment = owning(Clock(), 1)
    assignment.accept(Reading([FakeRecord(100, of=1)]))
    assert assignment.forget_buffers() == {1: 100}
    assert assignment.unwritten() == 0


def test_a_database_that_was_set_back_is_taken_again_above_every_epoch_that_was_ever_ours() -> None:
    assignment = owning(Clock(), 1, 2, 3)
    assignment.take_again(1, replace(MINE, epoch=3))
    assignment.take_again(2, None)
    assert assignment.due() == {1: 5, 2: 5}


def test_another_owner_is_given_two_heartbeats_before_the_epoch_is_raised_again() -> None:
    clock = Clock()
    assignment = owning(clock, 1)
    assignment.give_way(1)
    assert assignment.due() == {}
    clock.now_s += 1.9
    assert assignment.due() == {}
    clock.now_s += 1.2
    assert assignment.due() == {1: 0}


def test_five_other_owners_within_a_minute_stop_the_worker() -> None:
    clock = Clock()
    assignment = owning(clock, 1)
    for _ in range(4):
        assignment.give_way(1)
        clock.now_s += 14
        assignment.took(1, MINE)
    with pytest.raises(Stop, match="two deployments") as stopped:
        assignment.give_way(1)
    assert stopped.value.exit_code is ExitCode.PROTECT_NUMBERS


def test_other_owners_now_and_then_do_not_stop_it() -> None:
    clock = Clock()
    assignment = owning(clock, 1)
    for _ in range(20):
        assignment.give_way(1)
        clock.now_s += 16
        assignment.took(1, MINE)
