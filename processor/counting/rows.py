"""Counting one call at a time: the plain path, and the oracle for the columns."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from processor.calls import id_time_ms
from processor.counting.content import FIELD_WEIGHTS, HOUR_WEIGHT, MASK, STATUS_WEIGHT, mix, text_hash
from processor.counting.totals import UNTIMED, US_PER_HOUR, CallKind, Outcome, Totals

_text_hash: Final = lru_cache(maxsize=65536)(text_hash)  # only of calls that keep all rules: their texts are short


@dataclass(frozen=True, slots=True)
class CountedCall:
    """What is counted of one call. `usage`: (model, the eight counts in the order of USAGE_FIELDS, absent = 0)."""

    project_id: str
    id: str
    ended_at_us: int  # microseconds since the epoch, UTC
    failed: bool  # `exception` is not null
    usage: tuple[tuple[str, tuple[int, ...]], ...]
    status_counts: tuple[tuple[str, int], ...]

    @property
    def hour(self) -> int:
        """Hours since the epoch, UTC."""
        return self.ended_at_us // US_PER_HOUR

    @property
    def kind(self) -> CallKind:
        stated = sum(count for _, count in self.status_counts)
        if stated == 1:
            return CallKind.LEAF
        return CallKind.ROLLUP if stated > 1 else CallKind.UNSTATED

    @property
    def outcome(self) -> Outcome:
        if self.failed:
            return Outcome.ERROR
        errors = sum(count for status, count in self.status_counts if status == "error")
        return Outcome.DESCENDANT_ERROR if errors > 0 else Outcome.SUCCESS


def fold(calls: Iterable[CountedCall]) -> Totals:
    """The deltas of these calls, each taken as counted."""
    totals = Totals()
    for call in calls:
        project_id, hour, kind = call.project_id, call.hour, call.kind
        totals.add(
            Totals(
                usage={(project_id, hour, model, kind): (1, *counts) for model, counts in call.usage},
                statuses={(project_id, hour, status, kind): count for status, count in call.status_counts},
                outcomes={(project_id, hour, call.outcome, kind): 1},
            )
        )
    return totals


def content_hash(call: CountedCall) -> int:
    """64 bits of what is counted, signed as PostgreSQL's bigint."""
    words = HOUR_WEIGHT * call.hour + _text_hash(call.outcome)
    for model, counts in call.usage:
        words += mix((_text_hash(model) + sum(w * c for w, c in zip(FIELD_WEIGHTS, counts, strict=True))) & MASK)
    for status, count in call.status_counts:
        words += mix((_text_hash(status) + STATUS_WEIGHT * count) & MASK)
    word = mix(words & MASK)
    return word - (1 << 64) if word >> 63 else word


@dataclass(slots=True)
class CallRows:
    """Calls as one object each: the plain path, and the oracle for the others."""

    calls: list[CountedCall] = field(default_factory=list)
    partitions: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    record_times_ms: list[int] = field(default_factory=list)

    def append(self, call: CountedCall, partition: int, offset: int, record_time_ms: int) -> None:
        self.calls.append(call)
        self.partitions.append(partition)
        self.offsets.append(offset)
        self.record_times_ms.append(record_time_ms)

    @property
    def identities(self) -> Sequence[tuple[str, str]]:
        return [(call.project_id, call.id) for call in self.calls]

    @property
    def id_times_ms(self) -> Sequence[int]:
        times = (id_time_ms(call.id) for call in self.calls)
        return [UNTIMED if time_ms is None else time_ms for time_ms in times]

    @property
    def ended_at_us(self) -> Sequence[int]:
        return [call.ended_at_us for call in self.calls]

    @property
    def content_hashes(self) -> Sequence[int]:
        return list(map(content_hash, self.calls))

    def fold(self, left_out: Collection[int]) -> Totals:
        return fold(call for position, call in enumerate(self.calls) if position not in left_out)
