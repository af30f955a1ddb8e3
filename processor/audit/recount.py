"""Records counted again, one at a time: which of them the totals must hold.

Whether a record is the first of its call is not derived anew: partitions are counted beside each other, so only the
key row knows who came first. A record is counted if and only if its call's key row names its place. That holds for
whatever the workers thought of a record at the time: set aside by a defect, outside the horizon, read twice.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from processor.audit.runs import Sums
from processor.audit.walk import Passage
from processor.batch import Record, offset_of
from processor.codec.rows import decode_counted
from processor.counting.rows import CountedCall, content_hash, fold
from processor.counting.totals import Key as TotalsKey
from processor.counting.totals import Totals
from processor.errors import Rejected
from processor.ledger import Absent, Ledger, Winner

ANY_HORIZON_DAYS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Conflict:
    """A record that repeats a call with other content than the first."""

    project_id: str
    id: str
    first: Winner
    later: Winner


OnConflict = Callable[[Conflict], None]


@dataclass(slots=True)
class Recount:
    """`project`: only its rows. `conflicts`: told of each, or None."""

    ledger: Ledger
    sums: Sums
    project: str | None = None
    on_conflict: OnConflict | None = None
    records: int = 0
    first_time_ms: int | None = None  # Kafka's time of the oldest and the newest of them
    last_time_ms: int | None = None
    counted: Counter[int] = field(default_factory=Counter)  # these four by partition
    uncounted: Counter[int] = field(default_factory=Counter)
    skipped: Counter[int] = field(default_factory=Counter)
    gap_offsets: Counter[int] = field(default_factory=Counter)
    forgotten: Counter[int] = field(default_factory=Counter)  # nobody knows whether they were counted

    def add(self, passage: Passage) -> None:
        partition = passage.partition
        self.records += len(passage.records)
        self.gap_offsets[partition] += passage.gap_offsets
        self._note_times([record.timestamp()[1] for record in passage.records])
        calls = self._decode(passage)
        winners = self.ledger.winners([call for call, _ in calls])
        mine = []
        for (call, offset), winner in zip(calls, winners, strict=True):
            if winner is Absent.FORGOTTEN:
                self.forgotten[partition] += 1
                self._add(fold([call]), unknown=True)
            elif isinstance(winner, Winner) and (winner.partition, winner.offset) == (partition, offset):
                self.counted[partition] += 1
                mine.append(call)
            else:
                self.uncounted[partition] += 1
                if isinstance(winner, Winner) and self.on_conflict is not None:
                    self._compare(call, winner, partition, offset, self.on_conflict)
        self._add(fold(mine))

    def _note_times(self, times_ms: Sequence[int]) -> None:
        if times_ms:
            self.first_time_ms = min(times_ms) if self.first_time_ms is None else min(self.first_time_ms, *times_ms)
            self.last_time_ms = max(times_ms) if self.last_time_ms is None else max(self.last_time_ms, *times_ms)

    def _decode(self, passage: Passage) -> list[tuple[CountedCall, int]]:
        calls = []
        for record in passage.records:
            value = record.value()
            if value is None:
                self.skipped[passage.partition] += 1
            elif (call := _decoded(record, value)) is None:
                self.uncounted[passage.partition] += 1
            elif self.project in (None, call.project_id):
                calls.append((call, offset_of(record)))
        return calls

    def _compare(self, call: CountedCall, first: Winner, partition: int, offset: int, tell: OnConflict) -> None:
        later = Winner(partition, offset, content_hash(call))
        if later.content_hash != first.content_hash:
            tell(Conflict(call.project_id, call.id, first, later))

    def _add(self, totals: Totals, *, unknown: bool = False) -> None:
        tables: Sequence[tuple[str, Mapping[TotalsKey, tuple[int, ...]]]] = (
            ("usage_totals", totals.usage),
            ("status_totals", {key: (count,) for key, count in totals.statuses.items()}),
            ("outcome_totals", {key: (count,) for key, count in totals.outcomes.items()}),
        )
        for table, rows in tables:
            for (project_id, hour, name, kind), numbers in rows.items():
                self.sums.add((table, project_id, hour, str(name), str(kind)), None if unknown else numbers)


def _decoded(record: Record, value: bytes) -> CountedCall | None:
    """None if it can never be counted."""
    try:
        return decode_counted(value, record_time_ms=record.timestamp()[1], horizon_days=ANY_HORIZON_DAYS)
    except Rejected:
        return None
