"""The loop against a log in memory and the sink's double: the whole protocol without servers."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any
from unittest.mock import patch

import pytest
from prometheus_client import CollectorRegistry

from processor.batch import Reading, Reject, offset_of
from processor.calls import parse_call_end
from processor.codec.rows import decode_counted, encode
from processor.counting.rows import CountedCall, fold
from processor.deadline import Deadline
from processor.errors import ExitCode, ReadFailed, Stop, Unavailable
from processor.metrics import WorkerMetrics
from processor.sinks.base import Batch, Breaker, Checkpoint, TakeOver
from processor.sinks.memory import MemorySink
from processor.worker.assignment import Assignment
from processor.worker.breaker import BreakerLimits
from processor.worker.decode import decode_rows
from processor.worker.loop import Limits, Worker
from tests.factories import NOON_MS, FakeRecord

HORIZON_DAYS = 35


def record(offset: int, call_id: str | None = None, *, of: int = 0, tokens: int = 1) -> FakeRecord:
    body = (
        f'{{"end":{{"project_id":"acme/chat","id":"{call_id or f"call-{of}-{offset}"}","ended_at":{NOON_MS},'
        f'"summary":{{"usage":{{"m":{{"total_tokens":{tokens}}}}},"status_counts":{{"success":1}}}}}}}}'
    )
    now = datetime.fromtimestamp(NOON_MS / 1000, UTC)
    value = encode(parse_call_end(body.encode(), now=now, horizon_days=HORIZON_DAYS))
    return FakeRecord(offset, of=of, payload=value)


@dataclass(slots=True)
class FakeLog:
    """Partitions as lists of records; `fail_at`: these reads raise after they moved on.

    `gap_at_end`: by partition, how many offsets without a record follow the last one.
    """

    partitions: dict[int, list[FakeRecord]]
    positions: dict[int, int] = field(default_factory=dict)
    reading: set[int] = field(default_factory=set)
    mirrored: dict[int, int] = field(default_factory=dict)
    fail_at: set[int] = field(default_factory=set)
    seeks_that_fail: int = 0
    lose: set[int] = field(default_factory=set)  # offsets that are not handed over the first time
    gap_at_end: dict[int, int] = field(default_factory=dict)
    told_ends: dict[int, int] = field(default_factory=dict)
    stalled: set[int] = field(default_factory=set)  # sought while paused: librdkafka fetches a second after `resume`
    on_read: Callable[[int], None] = lambda _: None  # told the number of each read: the group's callbacks come in it
    reads: int = 0
    closed: bool = False

    def read(self, max_records: int, timeout_s: float) -> Reading:
        self.reads += 1
        self.on_read(self.reads)
        records = list(islice(self._next(), max_records))
        if self.reads in self.fail_at:
            raise ReadFailed("told to fail")
        return Reading(records, self._ends_reached())

    def _ends_reached(self) -> dict[int, int]:
        """As the client does: told once, and again after a seek."""
        ends = {partition: end for partition, (_, end) in self.log_bounds(self.reading).items()}
        reached = {
            partition: end
            for partition, end in ends.items()
            if end - self.gap_at_end.get(partition, 0) <= self.positions[partition]
            and self.told_ends.get(partition) != end
        }
        self.positions.update(reached)
        self.told_ends.update(reached)
        return reached

    def _next(self) -> Iterator[FakeRecord]:
        for partition in sorted(self.reading):
            for found in self.partitions[partition]:
                if found.at >= self.positions[partition]:
                    self.positions[partition] = found.at + 1
                    if found.at in self.lose:
                        self.lose.remove(found.at)
                    else:
                        yield found

    def pause(self, partitions: Iterable[int]) -> None:
        self.reading -= set(partitions)

    def resume(self, partitions: Iterable[int]) -> None:
        self.reading |= set(partitions)

    def seek(self, offsets: Mapping[int, int]) -> None:
        if self.seeks_that_fail:
            self.seeks_that_fail -= 1
            raise Unavailable("told to fail")
        self.positions.update(offsets)
        for partition in offsets:
            self.told_ends.pop(partition, None)
        self.stalled |= offsets.keys() - self.reading

    def log_bounds(self, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        return {partition: self._bounds(partition) for partition in partitions}

    def _bounds(self, partition: int) -> tuple[int, int]:
        records = self.partitions[partition]
        start, end = (records[0].at, records[-1].at + 1) if records else (0, 0)
        return start, end + self.gap_at_end.get(partition, 0)

    def mirror(self, next_offsets: Mapping[int, int]) -> None:
        self.mirrored.update(next_offsets)

    def close(self) -> None:
        self.closed = True


@dataclass(slots=True)
class FakeDeadLetters:
    fail_at: set[int] = field(default_factory=set)
    sent: list[int] = field(default_factory=list)
    tries: int = 0

    def send(self, rejects: Collection[Reject], timeout_s: float) -> None:
        self.tries += 1
        if self.tries in self.fail_at:
            raise Unavailable("told to fail")
        self.sent += [offset_of(reject.record) for reject in rejects]


@dataclass(slots=True)
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(slots=True)
class Bench:
    log: FakeLog
    sink: MemorySink = field(default_factory=MemorySink)
    dead_letters: FakeDeadLetters = field(default_factory=FakeDeadLetters)
    clock: Clock = field(default_factory=Clock)
    worker: Worker = field(init=False)

    def __post_init__(self) -> None:
        assignment = Assignment(self.clock)
        self.worker = Worker(
            reader=self.log,
            assignment=assignment,
            sink=self.sink,
            dead_letters=self.dead_letters,
            decode=partial(decode_rows, horizon_days=HORIZON_DAYS),
            limits=Limits(batch_max_records=100, batch_max_age_s=0.25, breaker=BreakerLimits(run=10, share=0.5)),
            metrics=WorkerMetrics(CollectorRegistry()),
            clock=self.clock,
            now_ms=lambda: NOON_MS + 1000 * self.clock(),
        )
        assignment.assigned(self.log.partitions)

    def turn(self, times: int = 1, *, seconds: float = 0.3) -> None:
        for _ in range(times):
            self.worker.turn()
            self.clock.now_s += seconds

    def assert_counted_exactly(self) -> None:
        """Every record of the log once; conservation holds; nothing is left over."""
        calls: dict[tuple[str, str], CountedCall] = {}
        for records in self.log.partitions.values():
            for found in records:
                if found.payload is not None and found.payload.startswith(b"\xc3\x01"):
                    call = decode_counted(found.payload, record_time_ms=NOON_MS, horizon_days=HORIZON_DAYS)
                    calls.setdefault((call.project_id, call.id), call)
        assert self.sink.totals == fold(calls.values())
        for partition in self.log.partitions:
            checkpoint = self.sink.checkpoints[partition]
            assert checkpoint.next_offset == self.log.log_bounds([partition])[partition][1]
            assert checkpoint.unaccounted == 0


def log_of(*offsets: int) -> FakeLog:
    return FakeLog({0: [record(offset) for offset in offsets]})


def test_records_are_counted_and_offsets_follow() -> None:
    bench = Bench(FakeLog({0: [record(n) for n in range(5)], 1: [record(n, of=1) for n in range(3)]}))
    bench.turn(4)
    bench.assert_counted_exactly()
    assert bench.log.mirrored == {0: 5, 1: 3}


def test_a_worker_that_has_not_turned_yet_is_not_taken_for_stuck() -> None:
    assert Bench(log_of(0), clock=Clock(1000.0)).worker.last_turn_s == 1000


def test_a_partition_that_was_taken_is_fetched_at_once() -> None:
    bench = Bench(log_of(0, 1))
    bench.turn(2)
    assert not bench.log.stalled


def test_nothing_is_read_before_the_sink_has_given_the_partition() -> None:
    bench = Bench(log_of(0, 1))
    bench.sink.away = True
    bench.turn(5, seconds=10)
    assert bench.log.reading == set()
    assert bench.worker.failures == 5


def test_a_batch_waits_for_company_but_not_longer_than_its_age() -> None:
    bench = Bench(log_of(0, 1))
    bench.turn(2, seconds=0.1)
    assert bench.sink.writes == 0
    bench.turn(2, seconds=0.2)
    assert bench.sink.writes == 1


def test_what_the_client_waits_for_company_is_part_of_a_batchs_age(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(log_of(0, 1))
    at_once = FakeLog.read

    def read(log: FakeLog, max_records: int, timeout_s: float) -> Reading:
        bench.clock.now_s += 0.19
        return at_once(log, max_records, timeout_s)

    monkeypatch.setattr(FakeLog, "read", read)
    bench.turn(2, seconds=0)
    assert bench.sink.writes == 0
    bench.turn(seconds=0)
    assert bench.sink.writes == 1


def test_a_full_batch_does_not_wait() -> None:
    bench = Bench(log_of(*range(250)))
    bench.turn(3, seconds=0.001)
    assert bench.sink.writes == 2
    assert bench.sink.checkpoints[0].next_offset == 200


def test_while_the_sink_writes_the_next_batch_is_read_and_not_looked_at_before_the_sink_has_answered() -> None:
    bench = Bench(log_of(*range(250)))
    bench.turn(2, seconds=0.001)
    assert (bench.log.positions[0], bench.worker.assignment.unwritten()) == (200, 0)
    assert bench.sink.checkpoints[0].next_offset == 100
    bench.turn(3)
    bench.assert_counted_exactly()


def test_a_partition_that_goes_while_the_sink_writes_is_written_and_counted_on_when_it_comes_back() -> None:
    bench = Bench(FakeLog({0: [record(n) for n in range(120)], 1: [record(n, of=1) for n in range(150)]}))

    def rebalance(read: int) -> None:
        if bench.sink.writes == 1:
            bench.log.on_read = lambda _: None
            bench.worker.assignment.revoked([0])
            bench.log.pause([0])

    bench.log.on_read = rebalance
    bench.turn(3, seconds=0.001)
    assert bench.worker.assignment.owned.keys() == {1}
    assert (bench.sink.checkpoints[0].next_offset, bench.log.mirrored[0]) == (100, 0)
    metrics = bench.worker.metrics
    assert next(iter(metrics.calls_counted.collect())).samples[0].value == sum(
        checkpoint.counted for checkpoint in bench.sink.checkpoints.values()
    )
    bench.worker.assignment.assigned([0])
    bench.turn(6)
    bench.assert_counted_exactly()


def test_what_was_read_while_the_sink_failed_makes_no_batch_too_large_and_is_read_again() -> None:
    bench = Bench(log_of(*range(330)))
    bench.sink.lose_answer_at = {1}
    bench.sink.fail_at = {3}
    written: list[int] = []
    write = MemorySink.write

    def noted(sink: MemorySink, batch: Batch, *rest: Any) -> dict[int, Checkpoint]:
        written.append(len(batch.calls.offsets))
        return write(sink, batch, *rest)

    with patch.object(MemorySink, "write", noted):
        bench.turn(20, seconds=3)
    bench.assert_counted_exactly()
    assert max(written) == 100


@pytest.mark.parametrize("fails", range(2, 7))
def test_a_read_that_fails_while_the_sink_writes_is_read_again(fails: int) -> None:
    bench = Bench(log_of(*range(330)))
    bench.log.fail_at = {fails}
    bench.turn(8)
    bench.assert_counted_exactly()


def test_t5_a_repeat_is_counted_once() -> None:
    bench = Bench(FakeLog({0: [record(0, "a"), record(1, "a"), record(2, "b")]}))
    bench.turn(3)
    bench.assert_counted_exactly()
    assert bench.sink.checkpoints[0].duplicates == 1


def test_offsets_do_not_move_when_the_sink_fails_and_the_same_records_are_written_later() -> None:
    bench = Bench(log_of(0, 1, 2))
    bench.sink.fail_at = {1, 2, 3}
    bench.turn(3)
    assert bench.sink.checkpoints[0].next_offset == 0
    assert bench.log.reading == set()
    bench.turn(10, seconds=3)
    bench.assert_counted_exactly()
    assert bench.log.reading == {0}
    assert bench.worker.failures == 0


def test_a_lost_answer_to_commit_is_found_out_and_not_counted_twice() -> None:
    bench = Bench(log_of(0, 1, 2))
    bench.sink.lose_answer_at = {1}
    bench.turn(10, seconds=3)
    bench.assert_counted_exactly()
    counted = bench.worker.metrics.calls_counted.collect()
    assert next(iter(counted)).samples[0].value == 3


def test_a_partition_that_goes_while_the_sink_is_away_leaves_and_the_others_go_on() -> None:
    bench = Bench(FakeLog({0: [record(0)], 1: [record(0, of=1)]}))
    bench.sink.fail_at = {1}
    bench.turn(3)
    bench.worker.assignment.revoked([1])
    bench.turn(5, seconds=3)
    assert {p: c.next_offset for p, c in bench.sink.checkpoints.items()} == {0: 1, 1: 0}


def test_a_record_that_cannot_be_counted_is_a_dead_letter_before_the_write() -> None:
    log = log_of(0, 2)
    log.partitions[0].insert(1, FakeRecord(1, payload=b"foreign"))
    bench = Bench(log)
    bench.sink.fail_at = {1, 2}
    bench.turn(10, seconds=3)
    bench.assert_counted_exactly()
    assert bench.dead_letters.sent == [1]  # once, although the batch was tried three times
    assert bench.sink.checkpoints[0].dead_lettered == 1


def test_t32_a_dead_letter_topic_that_refuses_stops_the_partition_never_skips() -> None:
    log = log_of(0)
    log.partitions[0].append(FakeRecord(1, payload=b""))
    bench = Bench(log)
    bench.dead_letters.fail_at = set(range(1, 5))
    bench.turn(4, seconds=3)
    assert bench.sink.writes == 0
    bench.turn(10, seconds=3)
    bench.assert_counted_exactly()


def test_t35_a_tombstone_is_counted_and_skipped() -> None:
    log = log_of(0, 2)
    log.partitions[0].insert(1, FakeRecord(1, payload=None))
    bench = Bench(log)
    bench.turn(3)
    bench.assert_counted_exactly()
    assert bench.sink.checkpoints[0].skipped == 1
    assert bench.dead_letters.sent == []


def test_a_hole_in_what_the_client_hands_over_is_read_again_never_committed_over() -> None:
    bench = Bench(log_of(0, 1, 2, 3, 4))
    bench.log.lose = {2}
    bench.turn(5)
    bench.assert_counted_exactly()
    assert bench.sink.checkpoints[0].gap_offsets == 0


def test_a_gap_of_the_log_is_counted_as_a_gap() -> None:
    bench = Bench(log_of(5, 6, 9, 10))
    bench.turn(5)
    bench.assert_counted_exactly()
    assert (bench.sink.checkpoints[0].first_offset, bench.sink.checkpoints[0].gap_offsets) == (5, 2)


def test_many_gaps_of_the_log_cost_one_more_reading_together() -> None:
    bench = Bench(log_of(*range(0, 180, 3)))
    bench.turn(4)
    bench.assert_counted_exactly()
    assert bench.sink.checkpoints[0].gap_offsets == 2 * 59


def test_a_gap_at_the_end_of_the_log_is_passed_and_counted_as_a_gap() -> None:
    bench = Bench(FakeLog({0: [record(0), record(1)], 1: []}, gap_at_end={0: 3, 1: 1}))
    bench.turn(5)
    bench.assert_counted_exactly()
    assert [bench.sink.checkpoints[p].gap_offsets for p in (0, 1)] == [3, 1]
    assert bench.log.mirrored == {0: 5, 1: 1}
    writes = bench.sink.writes
    bench.turn(5)
    assert bench.sink.writes == writes


def test_a_record_that_the_client_loses_at_the_end_of_the_log_is_read_again_never_committed_over() -> None:
    bench = Bench(log_of(0, 1, 2))
    bench.log.lose = {2}
    bench.turn(5)
    bench.assert_counted_exactly()
    assert bench.sink.checkpoints[0].gap_offsets == 0


def test_what_cannot_be_sought_at_the_end_of_a_log_is_sought_in_the_next_turn() -> None:
    bench = Bench(FakeLog({0: [record(n) for n in range(3)], 1: [record(n, of=1) for n in range(3)]}))
    bench.turn()
    bench.log.lose, bench.log.seeks_that_fail = {1}, 2  # once read to its end, a log says nothing more by itself
    bench.turn(5)
    assert bench.log.seeks_that_fail == 0
    bench.assert_counted_exactly()


def test_a_hole_that_could_not_be_sought_is_no_gap_when_a_reading_of_before_shows_it_again() -> None:
    bench = Bench(FakeLog({0: [record(n) for n in range(5)], 1: [record(0, of=1)]}))
    bench.turn(2)
    bench.log.partitions[0] += [record(n) for n in (5, 6, 7)]
    bench.log.partitions[1].append(record(1, of=1))
    bench.log.lose, bench.log.seeks_that_fail = {5, 6, 7}, 1
    writes = bench.sink.writes

    def one_more(read: int) -> None:
        if bench.sink.writes > writes:
            bench.log.on_read = lambda _: None
            bench.log.partitions[0].append(record(8))

    bench.log.on_read = one_more
    bench.turn(6)
    bench.assert_counted_exactly()
    assert bench.sink.checkpoints[0].gap_offsets == 0


def test_a_partition_that_could_not_be_sought_and_went_is_not_sought() -> None:
    bench = Bench(log_of(0, 1, 2))
    bench.turn()
    bench.log.lose, bench.log.seeks_that_fail = {1}, 1
    bench.turn()
    bench.worker.assignment.revoked([0])
    bench.log.pause([0])
    bench.log.positions.clear()
    bench.turn()
    assert bench.log.positions == {}
    bench.worker.assignment.assigned([0])
    bench.turn(3)
    bench.assert_counted_exactly()


def test_a_gap_at_the_end_of_one_partition_does_not_hinder_the_search_for_a_record_that_cannot_be_stored() -> None:
    bench = Bench(FakeLog({0: [record(0)], 1: [record(0, of=1)]}, gap_at_end={0: 2}))
    bench.sink.unstorable = {"call-1-0"}
    bench.turn(20)
    assert bench.dead_letters.sent == [0]
    assert {p: (c.counted, c.gap_offsets, c.unaccounted) for p, c in bench.sink.checkpoints.items()} == {
        0: (1, 2, 0),
        1: (0, 0, 0),
    }


def test_a_read_that_fails_in_the_middle_is_read_again() -> None:
    bench = Bench(log_of(*range(250)))
    bench.log.fail_at = {2, 3}
    bench.turn(12)
    bench.assert_counted_exactly()


def test_a_database_that_was_set_back_is_noticed_without_traffic_and_counted_again() -> None:
    bench = Bench(log_of(*range(5)))
    bench.turn(1)
    before = (replace(bench.sink.checkpoints[0]), dict(bench.sink.seen))
    bench.turn(3)
    bench.assert_counted_exactly()
    bench.sink.totals = type(bench.sink.totals)()
    bench.sink.checkpoints[0], bench.sink.seen = before
    bench.turn(8, seconds=2)
    bench.assert_counted_exactly()


def test_a_worker_whose_partition_has_another_owner_writes_nothing_and_takes_it_again_if_it_is_still_assigned() -> None:
    bench = Bench(log_of(*range(5)))
    bench.turn(1)
    bench.sink.take([TakeOver(0, 0)], Deadline.after(1))
    bench.turn(2)
    assert bench.sink.checkpoints[0].next_offset == 0
    assert bench.log.reading == set()
    bench.turn(5, seconds=2)
    bench.assert_counted_exactly()
    assert bench.sink.checkpoints[0].epoch == 3


def test_a_checkpoint_where_no_batch_leads_stops_the_worker() -> None:
    bench = Bench(log_of(*range(5)))
    bench.turn(3)
    bench.sink.checkpoints[0] = replace(bench.sink.checkpoints[0], next_offset=77)
    with pytest.raises(Stop) as stopped:
        bench.turn(5, seconds=2)
    assert stopped.value.exit_code is ExitCode.PROTECT_NUMBERS


@pytest.mark.parametrize(("stored", "sentence"), [(3, "deleted before they were counted"), (30, "lost records")])
def test_a_checkpoint_outside_the_log_stops_the_worker(stored: int, sentence: str) -> None:
    bench = Bench(log_of(*range(10, 20)))
    bench.sink.take([TakeOver(0, stored)], Deadline.after(1))
    with pytest.raises(Stop, match=sentence):
        bench.turn(1)


def test_on_a_stop_signal_what_is_buffered_is_written_and_the_group_is_left() -> None:
    bench = Bench(log_of(*range(5)))
    turns = iter([False, False, True])
    bench.worker.run(lambda: next(turns))
    bench.assert_counted_exactly()
    assert bench.log.closed


def test_a_record_that_the_sink_cannot_store_is_found_and_set_aside_and_all_others_are_counted() -> None:
    bench = Bench(FakeLog({0: [record(n) for n in range(40)], 1: [record(n, of=1) for n in range(40)]}))
    bench.sink.unstorable = {"call-0-13", "call-1-0", "call-1-39"}
    bench.turn(60)
    assert sorted(bench.dead_letters.sent) == [0, 13, 39]
    assert {p: (c.counted, c.dead_lettered, c.unaccounted) for p, c in bench.sink.checkpoints.items()} == {
        0: (39, 1, 0),
        1: (38, 2, 0),
    }


def test_a_call_whose_key_may_be_forgotten_is_a_dead_letter_and_all_others_are_counted() -> None:
    bench = Bench(FakeLog({0: [record(n) for n in range(40)], 1: [record(n, of=1) for n in range(40)]}))
    bench.log.partitions[0][7].payload = b"bad"
    bench.sink.forgotten = {"call-0-13", "call-1-39"}
    bench.turn(4)
    assert sorted(bench.dead_letters.sent) == [7, 13, 39]
    assert {p: c.dead_letters for p, c in bench.sink.checkpoints.items()} == {
        0: {"undecodable": 1, "outside_horizon": 1},
        1: {"outside_horizon": 1},
    }
    assert [(c.counted, c.unaccounted) for c in bench.sink.checkpoints.values()] == [(38, 0), (39, 0)]


def test_calls_whose_keys_may_be_forgotten_trip_the_breaker_too() -> None:
    bench = Bench(log_of(*range(40)))
    bench.sink.forgotten = {f"call-0-{n}" for n in range(10, 20)}
    with pytest.raises(Stop, match="offset 19 "):
        bench.turn(4)
    assert bench.dead_letters.sent == []


def bad(*offsets: int) -> FakeLog:
    return FakeLog({0: [FakeRecord(n, payload=b"bad") if n in offsets else record(n) for n in range(40)]})


def test_a_run_of_rejected_records_trips_the_breaker_before_anything_of_the_batch_is_published() -> None:
    bench = Bench(bad(*range(20, 30)))
    with pytest.raises(Stop, match="offset 29 ") as stopped:
        bench.turn(3)
    assert stopped.value.exit_code is ExitCode.PROTECT_NUMBERS
    assert bench.dead_letters.sent == []
    assert bench.sink.writes == 0


def test_a_tripped_breaker_stays_tripped_over_restarts_until_it_is_resumed() -> None:
    log = bad(*range(20, 30))
    first = Bench(log)
    with pytest.raises(Stop):
        first.turn(3)
    second = Bench(FakeLog(log.partitions), sink=first.sink)
    with pytest.raises(Stop, match="call-processor resume"):
        second.turn(1)
    assert second.log.reading == set()
    stored = first.sink.checkpoints[0]
    first.sink.checkpoints[0] = replace(stored, breaker=Breaker(allowed_to=40))
    third = Bench(FakeLog(log.partitions), sink=first.sink)
    third.turn(3)
    third.assert_counted_exactly()
    assert third.dead_letters.sent == list(range(20, 30))


def test_a_run_that_goes_over_batches_trips_the_breaker_too() -> None:
    bench = Bench(bad(*range(5, 15)))
    bench.worker.limits = replace(bench.worker.limits, batch_max_records=6)
    with pytest.raises(Stop, match="offset 14"):
        bench.turn(6)
    assert bench.sink.checkpoints[0].next_offset == 12


def test_large_records_do_not_wait_for_company() -> None:
    large = [replace_payload(record(n), 20 * 2**20) for n in range(3)]
    bench = Bench(FakeLog({0: large}))
    bench.turn(1, seconds=0.001)
    assert bench.sink.checkpoints[0].next_offset == 0
    bench.turn(1, seconds=0.001)
    assert bench.sink.checkpoints[0].next_offset == 3


def replace_payload(one: FakeRecord, size: int) -> FakeRecord:
    """The tail behind what is counted is as long as it takes."""
    assert one.payload is not None
    one.payload = one.payload + b"x" * (size - len(one.payload))
    return one


@dataclass(slots=True)
class BusySink(MemorySink):
    """`meanwhile` happens once while somebody waits for a partition."""

    meanwhile: Callable[[], None] | None = None

    def take(self, wishes: Collection[TakeOver], deadline: Deadline) -> dict[int, Checkpoint]:
        happens, self.meanwhile = self.meanwhile, None
        if happens is not None:
            happens()
        return MemorySink.take(self, wishes, deadline)


def test_a_former_owner_that_counts_on_until_the_partition_is_taken_looks_like_no_loss_of_the_log() -> None:
    sink = BusySink()
    former, bench = Bench(log_of(0, 1, 2), sink=sink), Bench(log_of(0, 1, 2), sink=sink)
    former.turn(1)

    def more_comes_and_is_counted() -> None:
        for log in (former.log, bench.log):
            log.partitions[0] += [record(3), record(4)]
        former.turn(3)

    sink.meanwhile = more_comes_and_is_counted
    bench.turn(3)
    assert sink.checkpoints[0].epoch == 2
    bench.assert_counted_exactly()


def test_a_worker_whose_partitions_have_gone_says_that_it_has_none() -> None:
    bench = Bench(log_of(0, 1))
    bench.turn(3)
    (owned,) = bench.worker.metrics.partitions_owned.collect()
    assert owned.samples[0].value == 1
    bench.worker.assignment.revoked([0])
    bench.turn(1)
    (owned,) = bench.worker.metrics.partitions_owned.collect()
    assert owned.samples[0].value == 0
