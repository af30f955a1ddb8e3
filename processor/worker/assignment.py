"""Which partitions are ours, and what a row that is not as we left it means. Pure: no Kafka, no database.

The consumer's callbacks only change this state; they never touch the database and never raise (a raising callback
leaves a consumer that looks assigned and is silent for ever).
"""

import random
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from processor.batch import Contiguity, PartitionBuffer, Reading, Record, partition_of
from processor.deadline import Clock
from processor.sinks.base import Checkpoint
from processor.worker.guards import two_deployments

OTHER_OWNER_WAIT_S: Final = 2.0  # two heartbeats: if we are still assigned then, the other owner is not
OTHER_OWNER_LIMIT: Final = 5
NO_LEADER_WAIT_S: Final = 2.0
OTHER_OWNER_WINDOW_S: Final = 60.0


class Verdict(Enum):
    """Why a row is not as we expected it."""

    UNCHANGED = "it is as expected"
    COMMITTED = "our commit had succeeded, its answer was lost"
    SET_BACK = "the database went back in time"
    OTHER_OWNER = "another owner has taken it"
    NONSENSE = "no way leads there"


@dataclass(slots=True)
class Owned:
    checkpoint: Checkpoint  # as we last committed or took it
    buffer: PartitionBuffer
    attempted_ends: set[int] = field(default_factory=set)  # of batches sent to the sink whose fate is not known yet
    moved_s: float = 0.0  # when the checkpoint last moved, or was taken

    def advance(self, stored: Checkpoint) -> None:
        """All below the row's next offset is in the sink."""
        self.checkpoint = stored
        self.buffer.written(stored.next_offset)
        self.attempted_ends.clear()

    def judge(self, stored: Checkpoint | None) -> Verdict:
        mine = self.checkpoint
        if stored is None:
            return Verdict.SET_BACK
        if stored.epoch > mine.epoch:
            return Verdict.OTHER_OWNER
        if stored.epoch < mine.epoch or stored.next_offset < mine.next_offset:
            return Verdict.SET_BACK
        if stored.next_offset == mine.next_offset:
            return Verdict.UNCHANGED
        return Verdict.COMMITTED if stored.next_offset in self.attempted_ends else Verdict.NONSENSE


@dataclass(slots=True)
class _Wish:
    due_s: float
    above_epoch: int = 0


@dataclass(slots=True)
class Assignment:
    clock: Clock
    jitter: random.Random = field(default_factory=random.Random)
    owned: dict[int, Owned] = field(default_factory=dict)
    joined: bool = False  # the group has answered us once
    _wishes: dict[int, _Wish] = field(default_factory=dict)  # assigned to us, not yet taken in the sink
    _lost_to_others: dict[int, deque[float]] = field(default_factory=dict)

    def assigned(self, partitions: Iterable[int]) -> None:
        self.joined = True
        for partition in partitions:
            self.owned.pop(partition, None)
            self._wishes[partition] = _Wish(self.clock())

    def revoked(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self.owned.pop(partition, None)
            self._wishes.pop(partition, None)

    def due(self) -> dict[int, int]:
        """Partitions to take now, with the epoch that theirs must exceed."""
        now = self.clock()
        return {partition: wish.above_epoch for partition, wish in self._wishes.items() if wish.due_s <= now}

    def put_off(self, partitions: Iterable[int]) -> None:
        """They cannot be taken now: nobody leads them."""
        for partition in partitions:
            self._wishes[partition].due_s = self.clock() + NO_LEADER_WAIT_S

    def took(self, partition: int, checkpoint: Checkpoint) -> None:
        del self._wishes[partition]
        self.owned[partition] = Owned(checkpoint, PartitionBuffer(checkpoint.next_offset), moved_s=self.clock())

    def take_again(self, partition: int, stored: Checkpoint | None) -> None:
        """The database went back: own the partition anew, above every epoch that was ever ours."""
        mine = self.owned.pop(partition).checkpoint.epoch
        self._wishes[partition] = _Wish(self.clock(), max(mine, stored.epoch if stored else 0))

    def give_way(self, partition: int) -> None:
        """Another owner: wait for the group to take the partition from us; if it does not, raise again."""
        now = self.clock()
        times = self._lost_to_others.setdefault(partition, deque(maxlen=OTHER_OWNER_LIMIT))
        times.append(now)
        if len(times) == OTHER_OWNER_LIMIT and now - times[0] <= OTHER_OWNER_WINDOW_S:
            raise two_deployments(partition, OTHER_OWNER_LIMIT, OTHER_OWNER_WINDOW_S)
        del self.owned[partition]
        self._wishes[partition] = _Wish(now + OTHER_OWNER_WAIT_S + self.jitter.random())

    def accept(self, reading: Reading) -> dict[int, int]:
        """Buffer what is ours and in order. Partitions with a hole come back, with the offset to read again from."""
        holes = set()
        by_partition = defaultdict[int | None, list[Record]](list)
        for record in reading.records:
            by_partition[record.partition()].append(record)
        for records in by_partition.values():
            partition = partition_of(records[0])
            owned = self.owned.get(partition)  # None: revoked in the same call
            if owned is not None and owned.buffer.accept_all(records) is Contiguity.HOLE:
                holes.add(partition)
        for partition, end in reading.ends.items():
            owned = self.owned.get(partition)
            if owned is not None and owned.buffer.accept_end(end) is Contiguity.HOLE:
                holes.add(partition)
        return self.read_again(holes)

    def read_again(self, partitions: Iterable[int]) -> dict[int, int]:
        """Of those that are ours the offset behind what is buffered: what comes from there is not behind a hole."""
        ours = self.owned.keys() & set(partitions)
        return {partition: self.owned[partition].buffer.read_again() for partition in ours}

    def forget_buffers(self) -> dict[int, int]:
        """Drop what was buffered; by partition the offset to read again from."""
        for owned in self.owned.values():
            owned.buffer = PartitionBuffer(owned.checkpoint.next_offset)
        return self.read_again(self.owned)

    def unwritten(self) -> int:
        """Offsets read, and passed as gaps, that the sink does not have yet."""
        return sum(owned.buffer.unwritten for owned in self.owned.values())

    def unwritten_bytes(self) -> int:
        return sum(owned.buffer.size_bytes for owned in self.owned.values())

    def to_write(self) -> dict[int, Owned]:
        """Partitions that have something to write: records, or a gap at the end of the log."""
        return {partition: owned for partition, owned in self.owned.items() if owned.buffer.unwritten}
