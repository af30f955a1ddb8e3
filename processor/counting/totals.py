"""What is kept: totals by project, hour and kind of call; and the calls of a batch, as a sink sees them."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import add
from typing import Any, Final, Protocol

US_PER_HOUR: Final = 3_600_000_000
UNTIMED: Final = -1  # in the place of a time, for an id that has none


class CallKind(StrEnum):
    """Whether a call's summary stands for itself, by the sum of its own `status_counts`."""

    LEAF = "leaf"  # 1: the call alone
    ROLLUP = "rollup"  # 2 or more: other calls are already in it
    UNSTATED = "unstated"  # 0, less or absent: the client does not say


class Outcome(StrEnum):
    ERROR = "error"
    DESCENDANT_ERROR = "descendant_error"
    SUCCESS = "success"


Key = tuple[str, int, str, CallKind]  # (project_id, hour, model | status | outcome, call_kind)
Usage = tuple[int, ...]  # (calls, *the eight counts in the order of USAGE_FIELDS)


@dataclass(frozen=True, slots=True)
class Totals:
    """Deltas of the three totals tables."""

    usage: dict[Key, Usage] = field(default_factory=dict)
    statuses: dict[Key, int] = field(default_factory=dict)
    outcomes: dict[Key, int] = field(default_factory=dict)

    def add(self, other: "Totals") -> None:
        for key, more in other.usage.items():
            had = self.usage.get(key)
            self.usage[key] = more if had is None else tuple(map(add, had, more))
        for mine, deltas in ((self.statuses, other.statuses), (self.outcomes, other.outcomes)):
            for key, count in deltas.items():
                mine[key] = mine.get(key, 0) + count


class Numbers(Protocol):
    """A list of integers, or a column of them."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __getitem__(self, position: int, /) -> Any: ...


class Calls(Protocol):
    """The calls of one batch, in the order in which they are counted: the first of a repeated call wins.

    The sequences run in parallel, one entry a call.
    """

    @property
    def identities(self) -> Sequence[tuple[str, str]]:
        """(project_id, id)"""

    @property
    def id_times_ms(self) -> Numbers:
        """`calls.id_time_ms` of each id, or UNTIMED."""

    @property
    def ended_at_us(self) -> Numbers: ...

    @property
    def content_hashes(self) -> Numbers: ...

    @property
    def partitions(self) -> Sequence[int]: ...

    @property
    def offsets(self) -> Numbers: ...

    @property
    def record_times_ms(self) -> Numbers: ...

    def fold(self, left_out: Collection[int]) -> Totals:
        """The deltas of all calls but those at the positions `left_out` (the repeats)."""
