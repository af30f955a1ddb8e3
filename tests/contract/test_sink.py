"""What every sink that keeps offsets with totals must do; the same tests for each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from processor.counting.rows import CallRows, fold
from processor.counting.totals import Totals
from processor.deadline import Deadline
from processor.sinks.base import Batch, Breaker, Checkpoint, Fenced, Sink, TakeOver
from processor.sinks.memory import MemorySink
from processor.sinks.postgres.write import PostgresSink
from tests.contract.stored import LOG, stored_totals
from tests.factories import NOON_US, batch, counted, span, together, uuid7
from tests.stack import Installation


@dataclass(frozen=True, slots=True)
class Kept:
    """A sink, and a look at its totals from outside."""

    sink: Sink
    totals: Callable[[], Totals]


@pytest.fixture(params=["memory", "postgres"])
def kept(request: pytest.FixtureRequest) -> Iterator[Kept]:
    if request.param == "memory":
        memory = MemorySink()
        yield Kept(memory, lambda: memory.totals)
        return
    installation: Installation = request.getfixturevalue("installation")
    sink = PostgresSink(lambda: installation.dsn, LOG)
    yield Kept(sink, lambda: stored_totals(installation.dsn))
    sink.close()


def soon() -> Deadline:
    return Deadline.after(10)


def take(sink: Sink, *partitions: int, log_start: int = 0, above_epoch: int = 0) -> None:
    sink.take([TakeOver(partition, log_start, above_epoch) for partition in partitions], soon())


def test_a_partition_that_was_never_taken_begins_at_the_start_of_its_log(kept: Kept) -> None:
    taken = kept.sink.take([TakeOver(3, log_start=17)], soon())[3]
    assert (taken.epoch, taken.first_offset, taken.next_offset, taken.records_read) == (1, 17, 17, 0)


def test_a_taken_partition_goes_on_where_the_last_owner_committed(kept: Kept) -> None:
    take(kept.sink, 0)
    kept.sink.write(batch(counted("a"), counted("b")), soon())
    taken = kept.sink.take([TakeOver(0, log_start=1)], soon())[0]
    assert (taken.epoch, taken.first_offset, taken.next_offset, taken.counted) == (2, 0, 2, 2)


def test_the_new_epoch_is_above_the_one_that_an_owner_of_a_later_state_knows(kept: Kept) -> None:
    take(kept.sink, 0)
    assert kept.sink.take([TakeOver(0, log_start=0, above_epoch=7)], soon())[0].epoch == 8


def test_totals_are_the_fold_of_the_calls(kept: Kept) -> None:
    calls = [
        counted("a", usage={"gpt-4o": 3, "": 1}),
        counted("b", project_id="acme/bot", failed=True, status_counts=[("error", 1)]),
        counted("c", status_counts=[("success", 2), ("error", 1)]),
        counted("d", status_counts=[], ended_at_us=NOON_US - 1),
        counted("é", project_id="ä/ü/ö", usage={"ž": -5}),
    ]
    take(kept.sink, 0)
    kept.sink.write(batch(*calls), soon())
    assert kept.totals() == fold(calls)


def test_totals_add_up_over_batches(kept: Kept) -> None:
    take(kept.sink, 0, 1)
    kept.sink.write(batch(counted("a"), counted("b")), soon())
    kept.sink.write(together(batch(counted("c"), start=2), batch(counted("d"), partition=1)), soon())
    assert kept.totals() == fold([counted("a"), counted("b"), counted("c"), counted("d")])


@pytest.mark.parametrize("call_id", ["0123456789abcdef", uuid7(1)])
def test_a_repeat_in_the_same_batch_is_counted_once(kept: Kept, call_id: str) -> None:
    take(kept.sink, 0)
    row = kept.sink.write(batch(counted(call_id), counted(call_id), counted(call_id)), soon())[0]
    assert (row.counted, row.duplicates, row.conflicts, row.unaccounted) == (1, 2, 0, 0)
    assert kept.totals() == fold([counted(call_id)])


@pytest.mark.parametrize("call_id", ["0123456789abcdef", uuid7(1)])
def test_a_repeat_in_a_later_batch_or_another_partition_is_counted_once(kept: Kept, call_id: str) -> None:
    take(kept.sink, 0, 1)
    kept.sink.write(batch(counted(call_id)), soon())
    stored = kept.sink.write(
        together(batch(counted(call_id), counted("x"), start=1), batch(counted(call_id), partition=1)), soon()
    )
    assert [(row.counted, row.duplicates) for row in (stored[0], stored[1])] == [(2, 1), (0, 1)]
    assert kept.totals() == fold([counted(call_id), counted("x")])


@pytest.mark.parametrize("call_id", ["0123456789abcdef", uuid7(1)])
def test_a_repeat_with_other_content_is_a_conflict_and_the_first_wins(kept: Kept, call_id: str) -> None:
    first, other = counted(call_id), counted(call_id, usage={"gpt-4o": 11})
    take(kept.sink, 0)
    assert kept.sink.write(batch(first, other, first), soon())[0].conflicts == 1
    row = kept.sink.write(batch(other, start=3), soon())[0]
    assert (row.counted, row.duplicates, row.conflicts) == (1, 3, 2)
    assert kept.totals() == fold([first])


def test_repeats_within_a_batch_are_compared_with_the_call_that_was_counted(kept: Kept) -> None:
    first, other = counted("a"), counted("a", usage={"gpt-4o": 11})
    take(kept.sink, 0)
    kept.sink.write(batch(first), soon())
    assert kept.sink.write(batch(other, other, start=1), soon())[0].conflicts == 2
    assert kept.sink.write(batch(other, first, start=3), soon())[0].conflicts == 3


def test_the_same_id_in_another_project_is_another_call(kept: Kept) -> None:
    calls = [counted("x1", project_id="e/p"), counted("x1", project_id="e/q"), counted("1", project_id="e/px")]
    take(kept.sink, 0)
    assert kept.sink.write(batch(*calls), soon())[0].counted == 3


def test_a_batch_of_an_older_epoch_is_refused_whole(kept: Kept) -> None:
    take(kept.sink, 0, 1)
    take(kept.sink, 1)  # the next owner
    with pytest.raises(Fenced) as refused:
        kept.sink.write(together(batch(counted("a")), batch(counted("b"), partition=1)), soon())
    assert refused.value.stored[1] is not None
    assert refused.value.stored[1].epoch == 2
    assert kept.totals() == Totals()
    assert kept.sink.read([0], soon()) == {0: Checkpoint(epoch=1, next_offset=0, first_offset=0)}


def test_a_batch_that_does_not_begin_where_the_row_is_is_refused(kept: Kept) -> None:
    take(kept.sink, 0)
    kept.sink.write(batch(counted("a")), soon())
    with pytest.raises(Fenced):
        kept.sink.write(batch(counted("a")), soon())
    with pytest.raises(Fenced):
        kept.sink.write(batch(counted("c"), start=2), soon())
    assert kept.totals() == fold([counted("a")])


def test_a_batch_for_a_partition_without_a_row_is_refused(kept: Kept) -> None:
    with pytest.raises(Fenced) as refused:
        kept.sink.write(batch(counted("a"), partition=5), soon())
    assert refused.value.stored == {5: None}


def test_a_batch_without_calls_moves_its_checkpoint(kept: Kept) -> None:
    take(kept.sink, 0)
    row = kept.sink.write(Batch((span(3, dead_lettered=3),), CallRows()), soon())[0]
    assert (row.next_offset, row.records_read, row.dead_lettered, row.unaccounted) == (3, 3, 3, 0)


def test_read_says_what_is_stored_and_none_where_nothing_is(kept: Kept) -> None:
    take(kept.sink, 0)
    written = kept.sink.write(batch(counted("a")), soon())
    assert kept.sink.read([0, 9], soon()) == {0: written[0], 9: None}


def test_a_tripped_breaker_is_kept_for_the_next_owner_unless_it_is_an_older_owner_that_trips_it(kept: Kept) -> None:
    take(kept.sink, 0)
    tripped = Breaker(run=1000, read=2000, rejected=1500, tripped_at=1999)
    kept.sink.trip(0, 99, tripped, soon())
    assert kept.sink.take([TakeOver(0, 0)], soon())[0].breaker == Breaker()
    kept.sink.trip(0, 2, tripped, soon())
    assert kept.sink.take([TakeOver(0, 0)], soon())[0].breaker == tripped
