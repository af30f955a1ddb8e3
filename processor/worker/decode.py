"""Records become calls, rejects and tombstones: by columns, and by rows where a reason has to be named."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from processor.batch import Decoded, Record, Reject, offset_of, partition_of
from processor.codec.columns import MostlyBroken, NativeFailure, breaches, read_columns
from processor.codec.framing import HEADER_V1
from processor.codec.rows import decode_counted
from processor.counting.columns import ColumnCalls
from processor.counting.rows import CallRows
from processor.errors import Rejected


@dataclass(frozen=True, slots=True)
class Decoder:
    """`on_native_failure`: told once for each batch that the row path had to decode instead."""

    horizon_days: int
    on_native_failure: Callable[[NativeFailure], None]

    def __call__(self, records: Iterable[Record]) -> Decoded:
        records = list(records)
        try:
            return decode_columns(records, self.horizon_days)
        except NativeFailure as failure:
            self.on_native_failure(failure)
        except MostlyBroken:
            pass
        return decode_rows(records, self.horizon_days)


def decode_columns(records: Sequence[Record], horizon_days: int) -> Decoded:
    """All records at once; those that cannot be counted get their reason from the row path. `NativeFailure`,
    `MostlyBroken`: none."""
    values = [record.value() for record in records]
    bodies = [value[len(HEADER_V1) :] for value in values if value is not None and value.startswith(HEADER_V1)]
    found = read_columns(bodies)
    positions, read = found.read, len(bodies)
    del bodies  # copies, which may be large; the row path makes its own
    if read < len(values):
        framed = [at for at, value in enumerate(values) if value is not None and value.startswith(HEADER_V1)]
        positions = np.array(framed, np.int64)[positions]
    times_ms = np.array([record.timestamp()[1] for record in records], np.int64)
    (kept,) = np.nonzero(~breaches(found, times_ms[positions], horizon_days))
    counted = positions[kept]
    calls = ColumnCalls(
        found.columns,
        kept,
        partitions=np.array([record.partition() for record in records], np.int64)[counted],
        offsets=np.array([record.offset() for record in records], np.int64)[counted],
        record_times_ms=times_ms[counted],
    )
    rest = decode_rows([records[at] for at in np.delete(np.arange(len(records)), counted).tolist()], horizon_days)
    if len(rest.calls.offsets):
        raise NativeFailure("the columns refused a record that the rows count")
    return Decoded(calls, rest.rejects, rest.tombstones)


def decode_rows(records: Iterable[Record], horizon_days: int) -> Decoded:
    """One record at a time: the plain path."""
    calls, rejects, tombstones = CallRows(), [], []
    for record in records:
        value, time_ms = record.value(), record.timestamp()[1]
        if value is None:
            tombstones.append(record)
            continue
        try:
            call = decode_counted(value, record_time_ms=time_ms, horizon_days=horizon_days)
        except Rejected as rejected:
            # A new one: that which was raised holds frames, and these hold the whole batch.
            rejects.append(Reject(record, Rejected(rejected.reason, rejected.detail)))
        else:
            calls.append(call, partition_of(record), offset_of(record), time_ms)
    return Decoded(calls, tuple(rejects), tuple(tombstones))
