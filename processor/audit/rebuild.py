"""The log counted again into fresh tables, exactly as a worker counts it: through a sink, in transactions that hold
keys, totals and offsets together. So it may be killed anywhere, and goes on where its own checkpoints say."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from processor.audit.walk import Log, Passage, walk
from processor.batch import Decode, Decoded, partition_of
from processor.deadline import Clock, Deadline
from processor.errors import ExitCode, Stop
from processor.sinks.base import Batch, Breaker, Checkpoint, Fenced, Forgotten, Sink, Span, TakeOver, Unstorable

WRITE_DEADLINE_S: Final = 120.0

OnPassed = Callable[[int], None]  # told how many offsets were passed


class Rebuild:
    """`sink`: of the fresh tables. `starts`: where counting begins, by partition."""

    def __init__(self, sink: Sink, decode: Decode, starts: Mapping[int, int], clock: Clock) -> None:
        self._sink = sink
        self._decode = decode
        self._clock = clock
        wishes = [TakeOver(partition, start) for partition, start in starts.items()]
        self._rows = sink.take(wishes, self._deadline()) if wishes else {}

    @property
    def next_offsets(self) -> dict[int, int]:
        return {partition: row.next_offset for partition, row in self._rows.items()}

    def count(self, log: Log, ends: Mapping[int, int], on_passed: OnPassed) -> None:
        """Up to these offsets. `Stop` if another program counts into the same tables."""
        starts = {partition: offset for partition, offset in self.next_offsets.items() if partition in ends}
        for passages in walk(log, starts, ends, self._clock):
            ordered = sorted(passages, key=lambda passage: passage.partition)
            decoded = self._decode([record for passage in ordered for record in passage.records])
            try:
                self._rows |= self._sink.write(self._batch(ordered, decoded), self._deadline())
            except Fenced:
                raise Stop(ExitCode.DEPENDENCY, "another rebuild of these tables has begun: this one ends") from None
            except (Unstorable, Forgotten) as error:
                raise Stop(ExitCode.PROTECT_NUMBERS, f"a record cannot be counted again: {error}") from None
            on_passed(sum(passage.end - passage.start for passage in ordered))

    def _batch(self, passages: Sequence[Passage], decoded: Decoded) -> Batch:
        rejected = {passage.partition: Counter[str]() for passage in passages}
        for reject in decoded.rejects:
            rejected[partition_of(reject.record)][reject.rejected.reason] += 1
        skipped = Counter(map(partition_of, decoded.tombstones))
        return Batch(
            tuple(
                _span(passage, self._rows[passage.partition], rejected[passage.partition], skipped[passage.partition])
                for passage in passages
            ),
            decoded.calls,
        )

    def _deadline(self) -> Deadline:
        return Deadline.after(WRITE_DEADLINE_S, self._clock)


def _span(passage: Passage, row: Checkpoint, rejected: Mapping[str, int], skipped: int) -> Span:
    return Span(
        partition=passage.partition,
        epoch=row.epoch,
        start=passage.start,
        end=passage.end,
        records_read=len(passage.records),
        dead_letters=rejected,
        skipped=skipped,
        gap_offsets=passage.gap_offsets,
        record_time_ms=passage.records[-1].timestamp()[1] if passage.records else None,
        breaker=Breaker(),
    )
