"""From where the log can be counted again, and what is said of the rest."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from processor.audit.coverage import cover
from processor.errors import ExitCode, Stop
from processor.ledger import Baseline, Counters, Decided, Place, Row

LOG = ("cluster", "topic-id")
NOW = dt.datetime(2026, 9, 21, tzinfo=dt.UTC)


def decided(to: int) -> Decided:
    return Decided(to, Counters(0, to))


def at(partition: int, topic_id: str = LOG[1]) -> Place:
    return LOG[0], topic_id, partition


@dataclass(frozen=True, slots=True)
class FakeSnapshot:
    decided: Mapping[Place, Decided]
    baselines: Sequence[Baseline] = ()
    adopted_at: dt.datetime | None = None
    begins: Mapping[Place, int] = field(default_factory=lambda: {at(0): 0, at(1): 0, at(0, "other"): 0})

    def rows(self, project: str | None) -> Iterator[Row]:
        yield from ()

    def rows_of(self, baseline: int, project: str | None) -> Iterator[Row]:
        yield from ()


TWO = {at(0): decided(10), at(1): decided(20)}
OLD = Baseline(1, NOW, {at(0): decided(4)})  # partition 1 had no checkpoint then
NEW = Baseline(2, NOW, {at(0): decided(6), at(1): decided(8)})


def test_a_whole_log_is_counted_from_its_beginning() -> None:
    found = cover(FakeSnapshot(TWO, [OLD, NEW]), LOG, {0: (0, 12), 1: (0, 20)})
    assert (found.baseline.number, found.starts, found.ends) == (None, {0: 0, 1: 0}, {0: 10, 1: 20})
    assert found.lost == ()


def test_else_from_the_oldest_baseline_that_the_log_reaches_back_to() -> None:
    found = cover(FakeSnapshot(TWO, [OLD, NEW]), LOG, {0: (3, 12), 1: (0, 20)})
    assert (found.baseline.number, found.starts) == (1, {0: 4, 1: 0})
    assert found.lost == ("partition 0: the offsets 0 to 3 are no longer in the log",)
    found = cover(FakeSnapshot(TWO, [OLD, NEW]), LOG, {0: (3, 12), 1: (8, 20)})
    assert (found.baseline.number, found.starts) == (2, {0: 6, 1: 8})


def test_without_such_a_baseline_nothing_is_guessed() -> None:
    with pytest.raises(Stop, match="nothing can be checked: partition 0: the offsets 0 to 7 are no longer") as stop:
        cover(FakeSnapshot(TWO, [OLD, NEW]), LOG, {0: (7, 12), 1: (0, 20)})
    assert stop.value.exit_code == ExitCode.DEPENDENCY


def test_after_another_log_was_given_up_only_baselines_count() -> None:
    found = cover(FakeSnapshot(TWO, [NEW], adopted_at=NOW), LOG, {0: (0, 12), 1: (0, 20)})
    assert (found.baseline.number, found.lost) == (2, ("the totals hold calls of a log that was given up",))
    with pytest.raises(Stop):
        cover(FakeSnapshot(TWO, [], adopted_at=NOW), LOG, {0: (0, 12), 1: (0, 20)})


def test_calls_of_another_topic_cannot_be_counted_from_this_log() -> None:
    with pytest.raises(Stop, match="topic id other"):
        cover(FakeSnapshot({**TWO, at(0, "other"): decided(3)}), LOG, {0: (0, 12), 1: (0, 20)})


def test_what_is_read_again_is_not_compared_before_all_of_it_is_counted() -> None:
    again = Decided(20, Counters(4, 15))
    with pytest.raises(Stop, match=r"partition 1 is read again up to offset 20 .* to 15: verify when") as stop:
        cover(FakeSnapshot({**TWO, at(1): again}), LOG, {0: (0, 12), 1: (0, 20)})
    assert stop.value.exit_code == ExitCode.DEPENDENCY


def test_a_log_that_ends_before_what_was_counted_stops_it() -> None:
    with pytest.raises(Stop, match="the log ends at offset 9") as stop:
        cover(FakeSnapshot(TWO), LOG, {0: (0, 9), 1: (0, 20)})
    assert stop.value.exit_code == ExitCode.PROTECT_NUMBERS


@pytest.mark.parametrize(
    ("counted", "sentence"),
    [
        ({at(0, "other"): decided(3)}, "come from topic id other: do the settings name the right topic"),
        ({at(0): decided(0), at(0, "other"): decided(3)}, "come from topic id other"),
        ({at(0): decided(0)}, "no worker has counted a record of the configured topic yet"),
        ({}, "no worker has counted a record of the configured topic yet"),
    ],
)
def test_where_nothing_of_this_log_was_counted_nothing_can_be_right(
    counted: Mapping[Place, Decided], sentence: str
) -> None:
    there_already = Baseline(1, NOW, counted)  # compared with itself, all would be equal
    with pytest.raises(Stop, match=f"nothing can be checked: .*{sentence}") as stop:
        cover(FakeSnapshot(counted, [there_already]), LOG, {0: (0, 12), 1: (0, 20)})
    assert stop.value.exit_code == ExitCode.DEPENDENCY
