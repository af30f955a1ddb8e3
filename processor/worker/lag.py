"""How far the counting is behind the log. Pure: two threads tell, a third one asks, and time is an argument.

Nobody asks the broker when a scrape comes: the loop tells what it has, a watcher where the log ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from processor.sinks.base import Checkpoint
from processor.worker.assignment import Owned


@dataclass(frozen=True, slots=True)
class Progress:
    """Of one partition. Times of records are Kafka's, in milliseconds since 1970."""

    next_offset: int
    counted_ms: int | None  # time of the last record that was counted
    oldest_ms: int | None  # of the oldest one that was read and is not counted
    moved_s: float  # of the loop's clock: when the checkpoint last moved


def progress_of(owned: Owned) -> Progress:
    buffered = owned.buffer.records
    oldest_ms = buffered[0].timestamp()[1] if buffered else None
    return Progress(owned.checkpoint.next_offset, owned.checkpoint.record_time_ms, oldest_ms, owned.moved_s)


@dataclass(slots=True)
class Lag:
    """Every attribute is replaced as a whole, so that a reader in another thread sees an old or a new one."""

    _progress: Mapping[int, Progress] = field(default_factory=dict)
    _ends: Mapping[int, int] = field(default_factory=dict)
    _caught_up_ms: Mapping[int, float] = field(default_factory=dict)  # by partition, when all was last counted

    def progressed(self, progress: Mapping[int, Progress]) -> None:
        self._progress = progress

    def ended(self, ends: Mapping[int, int], asked_ms: float) -> None:
        """`ends`: by partition, the offset after the log's last; `asked_ms`: a moment before it was asked for."""
        progress = self._progress
        caught_up = [p for p, end in ends.items() if p in progress and progress[p].next_offset >= end]
        self._caught_up_ms = {**self._caught_up_ms, **dict.fromkeys(caught_up, asked_ms)}
        self._ends = ends

    def records(self) -> dict[int, float]:
        ends = self._ends
        return {p: max(0, ends[p] - one.next_offset) for p, one in self._progress.items() if p in ends}

    def seconds(self, now_ms: float) -> dict[int, float]:
        """Age of the oldest record that is not counted. Where it was not read yet, what is known is that it came after
        the last one that was counted, and after the last moment at which nothing was left to count. It may be
        younger."""
        behind = self.records()
        progress = self._progress
        return {p: self._age_s(p, progress[p], now_ms) if behind[p] else 0.0 for p in behind if p in progress}

    def checkpoint_ages(self, now_s: float) -> dict[int, float]:
        return {partition: now_s - one.moved_s for partition, one in self._progress.items()}

    def _age_s(self, partition: int, one: Progress, now_ms: float) -> float:
        since_ms: float | None = one.oldest_ms
        if since_ms is None:
            since_ms = max(one.counted_ms or 0, self._caught_up_ms.get(partition, 0))
        return max(0.0, (now_ms - since_ms) / 1000) if since_ms else 0.0


def moved(before: Mapping[int, Checkpoint], after: Mapping[int, Checkpoint]) -> dict[str, object]:
    """What a batch came to, for a line of the log."""
    names = ("records_read", "counted", "duplicates", "conflicts", "dead_lettered", "skipped")
    sums = {name: sum(getattr(after[p], name) - getattr(before[p], name) for p in after) for name in names}
    return {"partitions": sorted(after), **{name: number for name, number in sums.items() if number}}
