"""The tables as the accounting tools see them: how far the log is decided, the totals, and which calls were counted."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from processor.counting.rows import CountedCall

Place = tuple[str, str, int]  # cluster_id, topic_id, partition
# (table, project_id, hours since 1970, name, call_kind): keys sort as PostgreSQL sorts them under the collation "C".
Key = tuple[str, str, int, str, str]
Numbers = tuple[int, ...] | None  # in the order of the table's columns; None: nobody knows what stands there
Row = tuple[Key, Numbers]


@dataclass(frozen=True, slots=True)
class Counters:
    """What became of the records of a partition from `first_offset` up to `next_offset`."""

    first_offset: int
    next_offset: int
    counted: int = 0
    uncounted: int = 0  # duplicates and dead letters
    skipped: int = 0

    @property
    def gap_offsets(self) -> int:
        return self.next_offset - self.first_offset - self.counted - self.uncounted - self.skipped


@dataclass(frozen=True, slots=True)
class Decided:
    """Every record below `to` is counted, or never will be."""

    to: int
    counters: Counters


@dataclass(frozen=True, slots=True)
class Baseline:
    """Totals and offsets of one moment. `number` None: the beginning, when there were no totals."""

    number: int | None
    taken_at: dt.datetime | None
    decided: Mapping[Place, Decided]  # partitions that are absent had no checkpoint then


class Snapshot(Protocol):
    """The tables as they are at one moment."""

    @property
    def decided(self) -> Mapping[Place, Decided]: ...

    @property
    def begins(self) -> Mapping[Place, int]:
        """The first offset whose record may be in the totals."""

    @property
    def adopted_at(self) -> dt.datetime | None:
        """When a log was given up whose calls the totals still hold; None: there is none."""

    @property
    def baselines(self) -> Sequence[Baseline]:
        """Oldest first."""

    def rows(self, project: str | None) -> Iterator[Row]:
        """All totals, sorted by key."""

    def rows_of(self, baseline: int, project: str | None) -> Iterator[Row]:
        """As they were."""


@dataclass(frozen=True, slots=True)
class Winner:
    """The record that was counted for a call."""

    partition: int
    offset: int
    content_hash: int


class Absent(Enum):
    """Why a call has no winner."""

    NEVER_COUNTED = "no record of it was counted"
    FORGOTTEN = "its key may have been dropped"


class Ledger(Protocol):
    def snapshot(self) -> AbstractContextManager[Snapshot]: ...

    def winners(self, calls: Sequence[CountedCall]) -> Sequence[Winner | Absent]:
        """In the order of `calls`."""
