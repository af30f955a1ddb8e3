"""The log from some offsets up to others, every offset passed once and in order, partition by partition."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from processor.batch import Contiguity, PartitionBuffer, Reading, Record, offset_of, partition_of
from processor.deadline import Clock
from processor.errors import Unavailable

AT_ONCE: Final = 5000
READ_TIMEOUT_S: Final = 0.19  # the client's consume() loops in chunks of 200 ms
SILENT_S: Final = 60.0


class Log(Protocol):
    def begin(self, offsets: Mapping[int, int]) -> None: ...
    def end(self, partition: int) -> None: ...
    def seek(self, offsets: Mapping[int, int]) -> None: ...
    def read(self, max_records: int, timeout_s: float) -> Reading: ...


@dataclass(frozen=True, slots=True)
class Passage:
    """The offsets of a partition from `start` up to, not including, `end`, and the records that stand there."""

    partition: int
    start: int
    end: int
    records: Sequence[Record]

    @property
    def gap_offsets(self) -> int:
        return self.end - self.start - len(self.records)


def walk(log: Log, starts: Mapping[int, int], ends: Mapping[int, int], clock: Clock) -> Iterator[list[Passage]]:
    """What each read brought. `Unavailable` if nothing comes for a minute."""
    buffers = {partition: PartitionBuffer(start) for partition, start in starts.items() if start < ends[partition]}
    log.begin({partition: buffer.start for partition, buffer in buffers.items()})
    heard_s = clock()
    while buffers:
        reading = log.read(AT_ONCE, READ_TIMEOUT_S)
        holes = _accept(reading, buffers)
        log.seek({partition: buffers[partition].read_again() for partition in holes})
        passages = [_take(partition, buffer, ends[partition]) for partition, buffer in buffers.items()]
        for partition in [p for p, buffer in buffers.items() if buffer.start >= ends[p]]:
            del buffers[partition]
            log.end(partition)
        if passed := [passage for passage in passages if passage.end > passage.start]:
            heard_s = clock()
            yield passed
        elif clock() - heard_s > SILENT_S:
            raise Unavailable(f"the broker has not sent a record of partitions {sorted(buffers)} for {SILENT_S:.0f} s")


def _accept(reading: Reading, buffers: Mapping[int, PartitionBuffer]) -> set[int]:
    """Partitions with a hole."""
    holes = set()
    for record in reading.records:
        buffer = buffers.get(partition_of(record))
        if buffer is not None and buffer.accept(record) is Contiguity.HOLE:
            holes.add(partition_of(record))
    for partition, end in reading.ends.items():
        buffer = buffers.get(partition)
        if buffer is not None and buffer.accept_end(end) is Contiguity.HOLE:
            holes.add(partition)
    return holes


def _take(partition: int, buffer: PartitionBuffer, end: int) -> Passage:
    """What has come of it, no further than `end`."""
    reached = min(buffer.expected, end)
    records = [record for record in buffer.records if offset_of(record) < reached]
    passage = Passage(partition, buffer.start, reached, records)
    buffer.written(reached)
    return passage
