"""How far the counting is behind, from what the loop and the watcher told."""

from dataclasses import dataclass, replace

from processor.worker.lag import Lag, Progress, moved
from tests.unit.test_assignment import MINE

NOW_MS = 1_000_000_000.0


@dataclass
class Bench:
    lag: Lag

    def at(self, next_offset: int, *, counted_s: float | None = None, oldest_s: float | None = None) -> None:
        """Of partition 0; ages of records in seconds."""
        counted, oldest = (None if age is None else int(NOW_MS - age * 1000) for age in (counted_s, oldest_s))
        self.lag.progressed({0: Progress(next_offset, counted, oldest, moved_s=5)})


def bench() -> Bench:
    return Bench(Lag())


def test_nothing_is_said_of_a_partition_before_the_log_end_is_known() -> None:
    lag = bench()
    lag.at(100)
    assert (lag.lag.records(), lag.lag.seconds(NOW_MS)) == ({}, {})


def test_all_counted_is_no_lag_however_long_ago() -> None:
    lag = bench()
    lag.at(100, counted_s=86400)
    lag.lag.ended({0: 100, 1: 7}, NOW_MS)
    assert (lag.lag.records(), lag.lag.seconds(NOW_MS)) == ({0: 0}, {0: 0})


def test_an_end_that_is_older_than_the_progress_is_no_negative_lag() -> None:
    lag = bench()
    lag.at(105)
    lag.lag.ended({0: 100}, NOW_MS)
    assert lag.lag.records() == {0: 0}


def test_the_oldest_record_that_was_read_and_not_counted_says_how_old_the_lag_is() -> None:
    lag = bench()
    lag.at(100, counted_s=500, oldest_s=30)
    lag.lag.ended({0: 110}, NOW_MS)
    assert (lag.lag.records(), lag.lag.seconds(NOW_MS)) == ({0: 10}, {0: 30})


def test_a_record_that_was_not_read_yet_came_after_the_last_that_was_counted() -> None:
    lag = bench()
    lag.at(100, counted_s=40)
    lag.lag.ended({0: 110}, NOW_MS)
    assert lag.lag.seconds(NOW_MS) == {0: 40}


def test_after_days_of_silence_a_new_record_is_not_days_old() -> None:
    lag = bench()
    lag.at(100, counted_s=3 * 86400)
    lag.lag.ended({0: 100}, NOW_MS - 8000)
    lag.lag.ended({0: 101}, NOW_MS - 3000)
    assert lag.lag.seconds(NOW_MS) == {0: 8}


def test_the_age_of_a_checkpoint_is_that_of_its_last_move() -> None:
    lag = bench()
    lag.at(100)
    assert lag.lag.checkpoint_ages(12.5) == {0: 7.5}


def test_the_line_of_a_batch_names_what_it_came_to_and_no_zeros() -> None:
    after = replace(MINE, records_read=MINE.records_read + 5, counted=MINE.counted + 4, duplicates=MINE.duplicates + 1)
    assert moved({2: MINE}, {2: after}) == {"partitions": [2], "records_read": 5, "counted": 4, "duplicates": 1}
