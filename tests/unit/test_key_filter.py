"""Which keys are suspected: all of the last ones, and hardly any other."""

import numpy as np

from processor.counting.columns import Words
from processor.sinks.postgres.key_filter import KEYS, KeyFilter

BATCH = 20_000


def keys(number: int, count: int = BATCH) -> Words:
    """Others for each number, as good as a hash."""
    return np.random.default_rng(number).integers(0, 2**64, count, np.uint64)


def test_nothing_is_suspected_at_first() -> None:
    assert not KeyFilter().suspected(keys(1)).any()


def test_all_that_was_added_is_suspected_and_what_looks_like_it_is_told_apart() -> None:
    suspects = KeyFilter()
    suspects.add(keys(1))
    suspects.add(keys(2))
    assert suspects.suspected(np.concatenate([keys(2), keys(1)])).all()
    neighbours = np.concatenate([keys(1) ^ np.uint64(1), keys(1) ^ np.uint64(1 << 40)])
    assert suspects.suspected(neighbours).mean() < 0.001


def test_at_least_the_last_so_many_are_suspected_and_at_most_twice_as_many() -> None:
    suspects = KeyFilter(2 * BATCH)
    for number in range(5):
        suspects.add(keys(number))
    assert [bool(suspects.suspected(keys(number)).all()) for number in range(5)] == [False, False, True, True, True]


def test_of_new_keys_hardly_any_is_suspected_when_both_generations_are_full() -> None:
    suspects = KeyFilter()
    for number in range(2 * KEYS // BATCH):
        suspects.add(keys(number))
    assert 0 < suspects.suspected(keys(-1 % 2**32, 100_000)).mean() < 0.01


def test_none_of_none_is_suspected() -> None:
    suspects = KeyFilter()
    suspects.add(keys(1, 0))
    assert suspects.suspected(keys(2, 0)).tolist() == []
