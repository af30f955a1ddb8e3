"""The contract of a sink that keeps offsets together with totals.

A sink is one verb with a deadline, `write`: atomic for the whole batch. The rest is what owning a partition needs.
Every verb may raise `Unavailable` (nothing was written, or it is unknown whether it was: `read` tells) and `Stop`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from processor.counting.totals import Calls
from processor.deadline import Deadline


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """Which log the offsets belong to. A name is no identity: a topic can be created again under its old name."""

    cluster_id: str
    topic_id: str
    topic: str
    consumer_group: str


@dataclass(frozen=True, slots=True)
class Breaker:
    """How many records were rejected lately in one partition; where it stopped the worker, if it did."""

    run: int = 0  # rejected in a row, up to now
    read: int = 0  # size of the window
    rejected: int = 0  # rejected in the window
    tripped_at: int | None = None  # offset of the record that tripped it
    allowed_to: int = 0  # records below this offset were allowed by an operator (`call-processor resume`)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One partition's row: the next offset to read, and what became of all before it.

    Law: next_offset - first_offset = records_read + gap_offsets, and
    records_read = counted + duplicates + dead_lettered + skipped (conflicts are among the duplicates).
    """

    epoch: int
    next_offset: int
    first_offset: int
    records_read: int = 0
    counted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    dead_lettered: int = 0
    skipped: int = 0
    gap_offsets: int = 0
    record_time_ms: int | None = None  # Kafka timestamp of the last record
    breaker: Breaker = field(default_factory=Breaker)
    dead_letters: Mapping[str, int] = field(default_factory=dict)  # dead_lettered, by reason

    @property
    def unaccounted(self) -> int:
        outcomes = self.counted + self.duplicates + self.dead_lettered + self.skipped
        return self.next_offset - self.first_offset - self.gap_offsets - outcomes


@dataclass(frozen=True, slots=True)
class Span:
    """What one partition contributes to a batch: the offsets from `start` up to, not including, `end`."""

    partition: int
    epoch: int  # the owner's, as `take` gave it
    start: int  # the checkpoint's next_offset before the batch
    end: int
    records_read: int
    dead_letters: Mapping[str, int]  # records that can never be counted, by reason
    skipped: int
    gap_offsets: int
    record_time_ms: int | None
    breaker: Breaker


@dataclass(frozen=True, slots=True)
class Batch:
    spans: tuple[Span, ...]  # by partition, ascending
    calls: Calls  # of these spans, by partition, then offset


def advanced(
    stored: Mapping[int, Checkpoint], batch: Batch, duplicates: Collection[int], conflicts: Collection[int]
) -> dict[int, Checkpoint]:
    """The rows of a batch after it; `duplicates`, `conflicts`: positions among its calls."""
    of = batch.calls.partitions
    calls, repeated, conflicting = (
        Counter(of),
        Counter(of[at] for at in duplicates),
        Counter(of[at] for at in conflicts),
    )
    return {
        span.partition: _advanced(
            stored[span.partition], span, calls[span.partition], repeated[span.partition], conflicting[span.partition]
        )
        for span in batch.spans
    }


def _advanced(row: Checkpoint, span: Span, calls: int, duplicates: int, conflicts: int) -> Checkpoint:
    reasons = Counter(row.dead_letters) + Counter(span.dead_letters)
    return replace(
        row,
        next_offset=span.end,
        records_read=row.records_read + span.records_read,
        counted=row.counted + calls - duplicates,
        duplicates=row.duplicates + duplicates,
        conflicts=row.conflicts + conflicts,
        dead_lettered=row.dead_lettered + sum(span.dead_letters.values()),
        skipped=row.skipped + span.skipped,
        gap_offsets=row.gap_offsets + span.gap_offsets,
        record_time_ms=row.record_time_ms if span.record_time_ms is None else span.record_time_ms,
        # What an operator sets is only ever changed by an operator.
        breaker=replace(span.breaker, tripped_at=row.breaker.tripped_at, allowed_to=row.breaker.allowed_to),
        dead_letters=dict(reasons),
    )


@dataclass(frozen=True, slots=True)
class TakeOver:
    """The wish to own a partition."""

    partition: int
    log_start: int  # first offset of the log: where a partition begins that was never taken
    above_epoch: int = 0  # the new epoch is greater than this: an owner that knows a later one than the sink


class Fenced(Exception):
    """Nothing was written: rows are not as the batch expected them. `stored` has the rows of all its partitions."""

    def __init__(self, stored: Mapping[int, Checkpoint | None]) -> None:
        super().__init__(f"the checkpoints of partitions {sorted(stored)} are not as the batch expected them")
        self.stored = stored


class Unstorable(Exception):
    """Nothing was written: a value of the batch is one that the sink cannot store. A bug: checks should have caught it.

    The message names the kind of refusal, never a value.
    """


class Forgotten(Exception):
    """Nothing was written: calls are so old that the key of an earlier copy may be dropped, so nobody can tell whether
    they were counted before. They can never be counted. `positions`: of these calls in the batch.
    """

    def __init__(self, positions: Collection[int]) -> None:
        super().__init__(f"{len(positions)} calls are older than the dedupe keys")
        self.positions = positions


def nothing() -> None:
    """What is done meanwhile, as a rule."""


class Sink(Protocol):
    def take(self, wishes: Collection[TakeOver], deadline: Deadline) -> dict[int, Checkpoint]:
        """Own partitions: raise each row's epoch. When it returns, no older owner can write any more."""

    def write(self, batch: Batch, deadline: Deadline, meanwhile: Callable[[], None] = nothing) -> dict[int, Checkpoint]:
        """Count the batch and move its checkpoints, all or nothing. `meanwhile`: may be called while there is something
        to wait for; what it raises ends the write, and nothing was written.

        `Fenced` if a row has another epoch or offset; `Unstorable` if a value cannot be stored; `Forgotten`.
        """

    def read(self, partitions: Collection[int], deadline: Deadline) -> dict[int, Checkpoint | None]:
        """The rows as they are stored; None where there is none."""

    def trip(self, partition: int, epoch: int, breaker: Breaker, deadline: Deadline) -> None:
        """Keep a tripped breaker, so that a restart does not forget it."""

    def close(self) -> None: ...
