"""Records that passed every check and that the sink does not take: found, and set aside as dead letters.

A value that cannot be stored is searched by halves of halves, until its record stands alone. The checks before the
sink should have caught it, so this is a bug of ours, and is logged as one; but one record must not hold up all others
for ever. A call whose dedupe key may be dropped is named by the sink itself.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import structlog

from processor.batch import Decode, Decoded, Record, Reject, offset_of, partition_of
from processor.counting.totals import Calls
from processor.errors import DeadLetterReason, Defect, Rejected
from processor.sinks.base import Unstorable
from processor.worker.assignment import Owned

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Suspects:
    """As long as nothing is refused, all records are the next ones, and decoding is left alone."""

    _limit: int | None = None  # how many records to try next; they are of one partition
    _set_aside: dict[tuple[int, int], Rejected] = field(default_factory=dict)  # by partition and offset

    def next_of(self, owned: Mapping[int, Owned]) -> dict[int, Sequence[Record]]:
        """By partition, the records to write next."""
        if self._limit is None or not owned:
            return {partition: one.buffer.records for partition, one in owned.items()}
        first = min(owned)
        return {first: owned[first].buffer.records[: self._limit]}

    def decode(self, records: Mapping[int, Sequence[Record]], decode: Decode) -> Decoded:
        """Records that were set aside are rejected; the others are as `decode` says."""
        chosen = [record for partition in sorted(records) for record in records[partition]]
        if not self._set_aside:
            return _decode_or_name(chosen, decode)
        decoded = decode([record for record in chosen if _place(record) not in self._set_aside])
        aside = [Reject(r, self._set_aside[_place(r)]) for r in chosen if _place(r) in self._set_aside]
        return replace(decoded, rejects=(*decoded.rejects, *aside))

    def refused(self, records: Mapping[int, Sequence[Record]], refusal: Unstorable) -> None:
        """Look at fewer: half of them; half of the first partition's; or it is found."""
        count = sum(map(len, records.values()))
        if count > 1:
            self._limit = max(1, min(count // 2, len(records[min(records)])))
            return
        (only,) = chain.from_iterable(records.values())
        if _place(only) in self._set_aside:
            raise Defect(f"the sink refuses a batch without a call: {refusal}")
        self._set_aside[_place(only)] = Rejected(DeadLetterReason.INVALID, f"the database cannot store it ({refusal})")
        log.error(
            "a defect: a record passed every check and the database cannot store it; it becomes a dead letter",
            partition=partition_of(only), offset=offset_of(only), why=str(refusal),
        )  # fmt: skip

    def forgotten(self, calls: Calls, positions: Collection[int]) -> None:
        """The sink cannot tell whether these were counted before, so they never can be."""
        for at in positions:
            self._set_aside[calls.partitions[at], int(calls.offsets[at])] = Rejected(
                DeadLetterReason.OUTSIDE_HORIZON, "older than the dedupe keys that are kept: it may be counted already"
            )
        log.warning("calls are older than the dedupe keys: they become dead letters", calls=len(positions))

    def stored(self) -> None:
        self._limit = None
        self._set_aside.clear()


def _decode_or_name(records: Sequence[Record], decode: Decode) -> Decoded:
    """A defect that a record meets takes the worker down, each time that it is read: so say which it is."""
    try:
        return decode(records)
    except Exception:
        for record in records:
            try:
                decode([record])
            except Exception as error:  # noqa: BLE001  # whatever it is, it is raised again
                log.critical(
                    "a defect: the worker cannot decode this record, and stops at it whenever it is read",
                    partition=partition_of(record), offset=offset_of(record), why=type(error).__name__,
                )  # fmt: skip
        raise


def _place(record: Record) -> tuple[int, int]:
    return partition_of(record), offset_of(record)
