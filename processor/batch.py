"""Pure state between the log and the sink: what was read, which offset is expected next, what a batch is made of.

Nothing here has an effect outside, so that a rebalance may throw it away.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from processor.counting.totals import Calls
from processor.errors import Rejected

# The client's type: what is read from a broker is a list of (name, bytes or None).
Headers = dict[str, str | bytes | None] | list[tuple[str, str | bytes | None]] | None


class Record(Protocol):
    """A record of the log, as the Kafka client hands it over."""

    def __len__(self) -> int:
        """Bytes of the value; 0 if there is none."""

    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def timestamp(self) -> tuple[int, int]: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Headers: ...


def offset_of(record: Record) -> int:
    offset = record.offset()
    if offset is None:  # the client's type allows it for messages that were never produced
        raise ValueError("a record that was read has an offset")
    return offset


def partition_of(record: Record) -> int:
    partition = record.partition()
    if partition is None:
        raise ValueError("a record that was read has a partition")
    return partition


@dataclass(frozen=True, slots=True)
class Reading:
    """What one read of the log brought: records in their order, and which partitions were read to their end then.

    `ends`: by partition, the offset where its log ended. Below it there is no record that was not handed over.
    """

    records: Sequence[Record]
    ends: Mapping[int, int] = field(default_factory=dict)


class Contiguity(Enum):
    TAKEN = "taken"
    DROPPED = "dropped"  # below the expected offset: was read before
    HOLE = "hole"  # above it: seek to the expected offset and read again


@dataclass(slots=True)
class PartitionBuffer:
    """Records of one partition in unbroken order from `start` (the checkpoint's next_offset) up to `expected`.

    Where an offset is missing, the client has lost a record, or the log has a gap there (markers of transactions,
    aborted records). A gap is believed only when it was seen twice: at a hole the log is read again from `expected`.
    What else comes in the same reading is looked at for more gaps and dropped, so that many of them cost one more
    reading together, not one each.
    """

    start: int
    expected: int = field(init=False)
    records: list[Record] = field(default_factory=list)
    size_bytes: int = 0  # of the values
    dead_letters_sent: set[int] = field(default_factory=set)  # offsets whose dead letter is acknowledged
    _seen: set[tuple[int, int]] = field(default_factory=set)  # gaps: the offset expected, the one that came instead
    _ahead: int | None = None  # behind a hole: the offset expected there

    def __post_init__(self) -> None:
        self.expected = self.start

    def accept_all(self, records: Sequence[Record]) -> Contiguity:
        """Take the next records of a reading, as `accept` does one; HOLE if there is any."""
        expected = range(self.expected, self.expected + len(records))
        if self._ahead is None and [record.offset() for record in records] == list(expected):  # as a rule
            self.records += records
            self.size_bytes += sum(map(len, records))
            self.expected = expected.stop
            return Contiguity.TAKEN
        found = [self.accept(record) for record in records]
        return Contiguity.HOLE if Contiguity.HOLE in found else Contiguity.TAKEN

    def accept(self, record: Record) -> Contiguity:
        """Take the next record."""
        offset = offset_of(record)
        contiguity = self._reach(offset)
        if contiguity is Contiguity.TAKEN:
            self.records.append(record)
            self.size_bytes += len(record)
            self.expected = offset + 1
        return contiguity

    def accept_end(self, offset: int) -> Contiguity:
        """The log was read to its end: `offset` is the next one that it will give to a record."""
        contiguity = self._reach(offset)
        if contiguity is Contiguity.TAKEN:
            self.expected = offset
        return contiguity

    def read_again(self) -> int:
        """The offset from which: what comes now is no longer behind a hole."""
        self._ahead = None
        return self.expected

    def forget_gaps(self) -> None:
        """It could not be read again: what comes behind a hole is no second look at it."""
        self._seen.clear()

    def _reach(self, offset: int) -> Contiguity:
        if self._ahead is None:
            if offset < self.expected:
                return Contiguity.DROPPED
            if offset == self.expected or (self.expected, offset) in self._seen:
                return Contiguity.TAKEN
            self._seen.clear()
            self._ahead = self.expected
        if offset > self._ahead:
            self._seen.add((self._ahead, offset))
        self._ahead = max(self._ahead, offset + 1)
        return Contiguity.HOLE

    @property
    def unwritten(self) -> int:
        """Offsets passed, with a record or without."""
        return self.expected - self.start

    def end_of(self, records: Sequence[Record]) -> int:
        """The offset up to which these first ones of our records reach: all of them, with the gap behind them."""
        return self.expected if len(records) == len(self.records) else offset_of(records[-1]) + 1

    def written(self, end: int) -> None:
        """All below the offset `end` is in the sink."""
        left = self.records if end < self.expected else []
        self.records = [record for record in left if offset_of(record) >= end]
        self.size_bytes = sum(map(len, self.records))
        self.dead_letters_sent = {offset for offset in self.dead_letters_sent if offset >= end}
        self.start = end
        self.expected = max(self.expected, end)  # a late commit may be ahead of what was read again since


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that can never be counted, and why."""

    record: Record
    rejected: Rejected


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the records of a batch turned out to be."""

    calls: Calls
    rejects: tuple[Reject, ...]
    tombstones: tuple[Record, ...]  # records without a value


Decode = Callable[[Iterable[Record]], Decoded]
