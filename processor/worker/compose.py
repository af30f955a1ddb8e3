"""Records of owned partitions become a batch. Pure: composed anew for every try, from what is still ours."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from processor.batch import Decoded, Record, offset_of, partition_of
from processor.sinks.base import Batch, Span
from processor.worker.assignment import Owned
from processor.worker.breaker import BreakerLimits


def compose(
    owned: Mapping[int, Owned], records: Mapping[int, Sequence[Record]], decoded: Decoded, limits: BreakerLimits
) -> Batch:
    """`records`: by partition, the next of its buffer, none where it only has a gap; `decoded`: what they turned out to
    be."""
    rejected = defaultdict[int, dict[int, str]](dict)
    for reject in decoded.rejects:
        rejected[partition_of(reject.record)][offset_of(reject.record)] = reject.rejected.reason
    skipped = Counter(map(partition_of, decoded.tombstones))
    return Batch(
        tuple(_span(p, owned[p], records[p], rejected[p], skipped[p], limits) for p in sorted(records)), decoded.calls
    )


def _span(
    partition: int,
    owned: Owned,
    records: Sequence[Record],
    rejected: Mapping[int, str],
    skipped: int,
    limits: BreakerLimits,
) -> Span:
    start, end = owned.buffer.start, owned.buffer.end_of(records)
    breaker = owned.checkpoint.breaker
    if rejected or breaker.run or breaker.rejected:
        breaker = limits.judge(breaker, map(offset_of, records), rejected)
    return Span(
        partition=partition,
        epoch=owned.checkpoint.epoch,
        start=start,
        end=end,
        records_read=len(records),
        dead_letters=Counter(rejected.values()),
        skipped=skipped,
        gap_offsets=end - start - len(records),
        record_time_ms=records[-1].timestamp()[1] if records else None,
        breaker=breaker,
    )
