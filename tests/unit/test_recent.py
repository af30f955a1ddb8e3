"""What a session remembers of what it counted, and when it must not believe it."""

from processor.sinks.base import Checkpoint
from processor.sinks.postgres.recent import RecentKeys

A, B, C, D = (bytes([number]) * 16 for number in range(4))


def row(next_offset: int, epoch: int = 1) -> Checkpoint:
    return Checkpoint(epoch, next_offset, 0)


def test_what_was_counted_is_known_with_its_content() -> None:
    recent = RecentKeys()
    recent.add({A: 1, B: 2}, {0: row(2)})
    assert recent.known([C, B, A]) == {1: 2, 2: 1}


def test_at_least_the_last_so_many_are_known_and_at_most_twice_as_many() -> None:
    recent = RecentKeys(limit=1)
    recent.add({A: 1}, {0: row(1)})
    recent.add({B: 2}, {0: row(2)})
    recent.add({C: 3}, {0: row(3)})
    assert recent.known([A, B, C]) == {0: 1, 1: 2, 2: 3}
    recent.add({D: 4}, {0: row(4)})
    assert recent.known([A, B, C, D]) == {2: 3, 3: 4}


def test_it_is_forgotten_when_a_checkpoint_stands_elsewhere() -> None:
    for stored in ({0: row(4), 1: row(2)}, {0: row(5, epoch=2), 1: row(2)}, {0: row(5), 1: None}):
        recent = RecentKeys()
        recent.add({A: 1}, {0: row(3), 1: row(2)})
        recent.add({B: 2}, {0: row(5)})
        recent.check({0: row(5), 1: row(2)})
        assert (sorted(recent.partitions), recent.known([A, B])) == ([0, 1], {0: 1, 1: 2})
        recent.check(stored)
        assert (recent.partitions, recent.known([A, B])) == ([], {})
        recent.check({})
