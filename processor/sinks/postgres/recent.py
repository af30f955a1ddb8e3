"""What this session has counted lately: a repeat that comes soon is known without a look into the tables.

It is right only as long as the database remembers as well. Where it went back in time, each commit that is gone has
left its checkpoint behind: so what is known holds while every checkpoint stands where this session left it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from processor.sinks.base import Checkpoint

LIMIT: Final = 100_000  # calls of a generation, some 16 MB; there are two

Stand = tuple[int, int]  # epoch, next_offset


class RecentKeys:
    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self.forget()

    def forget(self) -> None:
        self._young: dict[bytes, int] = {}  # call_key: the content hash of what was counted
        self._old: dict[bytes, int] = {}
        self._left: dict[int, Stand] = {}

    @property
    def partitions(self) -> Sequence[int]:
        """Whose checkpoints this session has moved."""
        return list(self._left)

    def check(self, stored: Mapping[int, Checkpoint | None]) -> None:
        """`stored`: those checkpoints as they are now. Forgets all if one of them stands elsewhere."""
        if self._left != {partition: _stand(row) for partition, row in stored.items() if row is not None}:
            self.forget()

    def known(self, keys: Sequence[bytes]) -> dict[int, int]:
        """By index, the content hashes of those that were counted."""
        young, old = self._young, self._old
        return {
            at: young[key] if key in young else old[key] for at, key in enumerate(keys) if key in young or key in old
        }

    def add(self, counted: Mapping[bytes, int], moved: Mapping[int, Checkpoint]) -> None:
        """What a transaction has counted, and the checkpoints that it moved. Called when it is committed."""
        self._young |= counted
        if len(self._young) > self._limit:
            self._young, self._old = {}, self._young
        self._left |= {partition: _stand(row) for partition, row in moved.items()}


def _stand(row: Checkpoint) -> Stand:
    return row.epoch, row.next_offset
