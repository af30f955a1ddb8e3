"""A batch of bytes becomes columns, without an object per record: the same verdict as rows.py, far cheaper.

pyruhvro reads Avro straight into Arrow, by the schema that stops after `summary`. It raises ValueError on bytes that
are no record, and does not look at UTF-8: Arrow's full validation does. Whether a rule is broken is judged over whole
columns, and which one is left to the row path: records that break any are only named here, by their position.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro

from processor.calls import TIMED_FROM_MS, TIMED_UNTIL_MS, USAGE_FIELDS
from processor.codec.schema import CUT_SCHEMA, without_logical_types
from processor.counting.columns import Bools, CallColumns, Entries, Ints
from processor.counting.totals import UNTIMED
from processor.limits import (
    ID_BYTES,
    MAX_COUNT,
    MAX_MODELS,
    MAX_STATUSES,
    MODEL_BYTES,
    STATUS_BYTES,
    project_id_breach,
    text_breach,
    worker_window,
)

_SCHEMA: Final = json.dumps(without_logical_types(CUT_SCHEMA))

# Read at once: bounds what Arrow takes for hostile bytes (an entry of a map has two, and becomes twenty), and keeps its
# 32-bit offsets from overflowing.
PIECE_BYTES: Final = 32 * 2**20

# A thousand times such a time (142,000 years), and its distance from any other, fit into 64 bits.
_FAR_MS: Final = 2**52
MANY_BROKEN: Final = 100


class NativeFailure(Exception):
    """The library did what it should never do, a panic for instance: let the row path decode the batch."""


class MostlyBroken(Exception):
    """So many bodies are no records that looking for each of them costs more than reading all by rows."""


@dataclass(frozen=True, slots=True)
class ReadColumns:
    """`columns` has one entry for each of the positions `read`, ascending; the other bodies are no records, or have
    more models or statuses than a call may have. `ids`: once more, as Arrow has them."""

    columns: CallColumns
    ids: pa.StringArray
    read: Ints


def read_columns(bodies: Sequence[bytes]) -> ReadColumns:
    """Bodies without their frame. `NativeFailure`, `MostlyBroken`: nothing is known of any of them."""
    try:
        parts = [_within_bounds(first, piece, len(bodies)) for first, piece in _readable(_pieces(bodies, 0))]
        table = pa.Table.from_batches([part for _, part in parts], _FLAT_SCHEMA).combine_chunks()
        read = np.concatenate([np.empty(0, np.int64), *(positions for positions, _ in parts)])
        return ReadColumns(_columns(table), _one_chunk(table, "id"), read)
    except (KeyboardInterrupt, SystemExit, MostlyBroken):
        raise
    except BaseException as error:  # a panic of the library is no Exception
        raise NativeFailure(f"{type(error).__name__}") from error


def _readable(pieces: Iterator[tuple[int, pa.RecordBatch | None]]) -> Iterator[tuple[int, pa.RecordBatch]]:
    broken = 0
    for first, piece in pieces:
        if piece is not None:
            yield first, piece
        else:
            broken += 1
            if broken > MANY_BROKEN:
                raise MostlyBroken


def _pieces(bodies: Sequence[bytes], first: int) -> Iterator[tuple[int, pa.RecordBatch | None]]:
    """Halves of halves, until a piece is small, and a body that is no record stands alone: None."""
    piece = _piece(bodies)
    if piece is not None or len(bodies) == 1:
        yield first, piece
    elif bodies:
        middle = len(bodies) // 2
        yield from _pieces(bodies[:middle], first)
        yield from _pieces(bodies[middle:], first + middle)


def _piece(bodies: Sequence[bytes]) -> pa.RecordBatch | None:
    if len(bodies) > 1 and sum(map(len, bodies)) > PIECE_BYTES:
        return None
    try:
        batch = pyruhvro.deserialize_array(bodies, _SCHEMA)
        batch.validate(full=True)
    except ValueError:  # Arrow's own errors are ValueErrors too
        return None
    return _flat(batch)


def _flat(batch: pa.RecordBatch) -> pa.RecordBatch:
    """What is counted, and no more: the text of an exception may be most of a record."""
    end = batch.column("end")
    summary = end.field("summary")
    columns = {name: end.field(name) for name in ("project_id", "id", "ended_at")}
    columns["failed"] = end.field("exception").is_valid()
    columns |= {name: summary.field(name) for name in ("usage", "status_counts")}
    return pa.RecordBatch.from_pydict(columns)


def _within_bounds(first: int, piece: pa.RecordBatch, total: int) -> tuple[Ints, pa.RecordBatch]:
    """Positions and columns without records of too many entries: there may be millions, and every step costs all."""
    models, statuses = (np.diff(_ints(piece.column(name).offsets)) for name in ("usage", "status_counts"))
    (within,) = np.nonzero((models <= MAX_MODELS) & (statuses <= MAX_STATUSES))
    if len(within) < total:
        piece = piece.take(pa.array(within))  # a copy, so that the texts which nobody counts can go
    return first + within, piece


_FLAT_SCHEMA: Final = _flat(pa.RecordBatch.from_pylist([], pyruhvro.avro_to_arrow_schema(_SCHEMA))).schema


def _columns(table: pa.Table) -> CallColumns:
    project, projects = _encoded(_one_chunk(table, "project_id"))
    usage, statuses = _one_chunk(table, "usage"), _one_chunk(table, "status_counts")
    counts = usage.values.field("value")
    ids = _one_chunk(table, "id")
    return CallColumns(
        project=project,
        projects=projects,
        ids=ids.to_pylist(),
        id_times_ms=id_times_ms(ids),
        ended_at_us=_ints(_one_chunk(table, "ended_at")),
        failed=_one_chunk(table, "failed").to_numpy(zero_copy_only=False),
        usage=_entries(usage, [_ints(counts.field(name)) for name in USAGE_FIELDS]),
        statuses=_entries(statuses, [_ints(statuses.values.field("value"))]),
    )


def _entries(lists: pa.ListArray, numbers: list[Ints]) -> Entries:
    name, names = _encoded(lists.values.field("key"))
    ends = _ints(lists.offsets)
    return Entries(starts=ends, name=name, names=names, numbers=np.array(numbers, np.int64))


def _encoded(texts: pa.Array) -> tuple[Ints, list[str]]:
    encoded = texts.dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def _ints(array: pa.Array) -> Ints:
    """Null is 0."""
    found: Ints = array.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return found


def _one_chunk(table: pa.Table, name: str) -> pa.Array:
    """ValueError if there are more: then the texts together are too long for one column."""
    column = table.column(name)
    (chunk,) = column.chunks or [pa.array([], column.type)]
    return chunk


def breaches(found: ReadColumns, record_times_ms: Ints, horizon_days: int) -> Bools:
    """Which records break any rule of rules.py; `record_times_ms`: the broker's timestamp of each.

    The number of entries is not judged again. A record time beyond +-2^52 counts as broken: the row path reckons with
    it exactly.
    """
    columns = found.columns
    broken = _are_broken(columns.projects, lambda text: project_id_breach(text) is not None)[columns.project]
    broken |= _id_breaches(found.ids)
    broken |= _entry_breaches(columns.usage, MODEL_BYTES)
    broken |= _entry_breaches(columns.statuses, STATUS_BYTES)
    broken |= (record_times_ms < -_FAR_MS) | (record_times_ms > _FAR_MS)
    oldest, newest = worker_window(0, horizon_days)
    age = columns.ended_at_us - record_times_ms * 1000
    broken |= (age < oldest) | (age > newest)
    age = (columns.id_times_ms - record_times_ms) * 1000
    broken |= (columns.id_times_ms != UNTIMED) & ((age < oldest) | (age > newest))
    return broken


def _are_broken(texts: Sequence[str], is_broken: Any) -> Bools:
    return np.fromiter(map(is_broken, texts), np.bool_, len(texts))


def _id_breaches(ids: pa.StringArray) -> Bools:
    starts, data = _texts(ids)
    length = np.diff(starts)
    broken: Bools = (length < ID_BYTES[0]) | (length > ID_BYTES[1])
    if not data[starts[0] : starts[-1]].all():  # a NUL in any of them
        broken |= pc.match_substring(ids, "\0").to_numpy(zero_copy_only=False)
    return broken


def _entry_breaches(entries: Entries, key_bytes: tuple[int, int]) -> Bools:
    bad_name = _are_broken(entries.names, lambda text: text_breach("", text, key_bytes) is not None)
    bad_entry = bad_name[entries.name]
    for numbers in entries.numbers:
        bad_entry |= (numbers > MAX_COUNT) | (numbers < -MAX_COUNT)
    return entries.any_of(bad_entry) | entries.any_of(entries.repeated())


# Of a UUIDv7's text: where its hexadecimal digits, its hyphens, its version and its variant are.
_LENGTH: Final = 36
_HYPHENS: Final = (8, 13, 18, 23)
_DIGITS: Final = [place for place in range(_LENGTH) if place not in _HYPHENS]
_TIME_DIGITS: Final = _DIGITS[:12]
_NOT_HEX: Final = 255
_HEX: Final = np.full(256, _NOT_HEX, np.uint8)
for _digit in "0123456789abcdefABCDEF":
    _HEX[ord(_digit)] = int(_digit, 16)
_PLACES: Final = (1 << (4 * np.arange(11, -1, -1))).astype(np.int64)


def _texts(texts: pa.StringArray) -> tuple[Ints, Any]:
    """Where each begins (and the last one ends) in their bytes; the bytes."""
    _, starts, data = texts.buffers()
    if not len(texts):
        return np.zeros(1, np.int64), np.empty(0, np.uint8)
    first = texts.offset
    return (
        np.frombuffer(starts, np.int32)[first : first + len(texts) + 1].astype(np.int64),
        np.frombuffer(data or b"", np.uint8),
    )


def id_times_ms(ids: pa.StringArray) -> Ints:
    """`calls.id_time_ms` over a column; UNTIMED where an id has none."""
    starts, data = _texts(ids)
    time_ms = np.full(len(ids), UNTIMED, np.int64)
    (candidates,) = np.nonzero(np.diff(starts) == _LENGTH)
    if not len(candidates):
        return time_ms
    if len(candidates) == len(ids):  # as a rule all are: then they stand one behind the other
        text = data[starts[0] : starts[-1]].reshape(-1, _LENGTH)
    else:
        text = data[starts[candidates][:, None] + np.arange(_LENGTH)]
    digit = _HEX[text]
    is_uuid7 = (
        (text[:, _HYPHENS] == ord("-")).all(axis=1)
        & (digit[:, _DIGITS] != _NOT_HEX).all(axis=1)
        & (digit[:, 14] == 7)
        & (digit[:, 19] >> 2 == 2)
    )
    times = digit[:, _TIME_DIGITS].astype(np.int64) @ _PLACES
    is_timed = is_uuid7 & (times >= TIMED_FROM_MS) & (times < TIMED_UNTIL_MS)
    time_ms[candidates] = np.where(is_timed, times, UNTIMED)
    return time_ms
