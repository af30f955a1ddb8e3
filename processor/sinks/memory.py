"""A double of the sink for tests: the same contract in a few dictionaries, and a knob to fail at the nth write."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from processor.counting.totals import Totals
from processor.deadline import Deadline
from processor.errors import Unavailable
from processor.sinks.base import (
    Batch,
    Breaker,
    Checkpoint,
    Fenced,
    Forgotten,
    TakeOver,
    Unstorable,
    advanced,
    nothing,
)


@dataclass(slots=True)
class MemorySink:
    away: bool = False  # every verb raises Unavailable
    fail_at: set[int] = field(default_factory=set)  # these writes, counted from 1, raise Unavailable before the commit
    lose_answer_at: set[int] = field(default_factory=set)  # these are committed, and raise Unavailable all the same
    unstorable: set[str] = field(default_factory=set)  # ids of calls that cannot be stored
    forgotten: set[str] = field(default_factory=set)  # ids of calls whose keys may be dropped
    totals: Totals = field(default_factory=Totals)
    checkpoints: dict[int, Checkpoint] = field(default_factory=dict)
    seen: dict[tuple[str, str], int] = field(default_factory=dict)  # (project_id, id): content hash of the winner
    writes: int = 0

    def take(self, wishes: Collection[TakeOver], deadline: Deadline) -> dict[int, Checkpoint]:
        self._answer()
        for wish in wishes:
            first = Checkpoint(epoch=0, next_offset=wish.log_start, first_offset=wish.log_start)
            stored = self.checkpoints.get(wish.partition, first)
            taken = replace(stored, epoch=max(stored.epoch, wish.above_epoch) + 1)
            self.checkpoints[wish.partition] = taken
        return {wish.partition: self.checkpoints[wish.partition] for wish in wishes}

    def write(self, batch: Batch, deadline: Deadline, meanwhile: Callable[[], None] = nothing) -> dict[int, Checkpoint]:
        self._answer()
        self.writes += 1
        if self.writes in self.fail_at:
            raise Unavailable("told to fail")
        self._compare(batch)
        meanwhile()
        if any(call_id in self.unstorable for _, call_id in batch.calls.identities):
            raise Unstorable("told to refuse it")
        if forgotten := [at for at, (_, call_id) in enumerate(batch.calls.identities) if call_id in self.forgotten]:
            raise Forgotten(forgotten)
        duplicates, conflicts = self._insert_keys(batch)
        self.totals.add(batch.calls.fold(left_out=duplicates))
        self.checkpoints |= advanced(self.checkpoints, batch, duplicates, conflicts)
        if self.writes in self.lose_answer_at:
            raise Unavailable("told to lose the answer to COMMIT")
        return {span.partition: self.checkpoints[span.partition] for span in batch.spans}

    def read(self, partitions: Collection[int], deadline: Deadline) -> dict[int, Checkpoint | None]:
        self._answer()
        return {partition: self.checkpoints.get(partition) for partition in partitions}

    def trip(self, partition: int, epoch: int, breaker: Breaker, deadline: Deadline) -> None:
        stored = self.checkpoints[partition]
        if stored.epoch == epoch:
            self.checkpoints[partition] = replace(stored, breaker=breaker)

    def close(self) -> None:
        """Nothing to close."""

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("told to be away")

    def _compare(self, batch: Batch) -> None:
        stored = self.read([span.partition for span in batch.spans], Deadline.after(0))
        for span in batch.spans:
            row = stored[span.partition]
            if row is None or (row.epoch, row.next_offset) != (span.epoch, span.start):
                raise Fenced(stored)

    def _insert_keys(self, batch: Batch) -> tuple[set[int], set[int]]:
        duplicates, conflicts = set(), set()
        hashes = batch.calls.content_hashes
        for position, identity in enumerate(batch.calls.identities):
            if identity in self.seen:
                duplicates.add(position)
                if self.seen[identity] != hashes[position]:
                    conflicts.add(position)
            else:
                self.seen[identity] = hashes[position]
        return duplicates, conflicts
