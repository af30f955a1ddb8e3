"""The dedupe keys of a batch, as columns: what a call is known by, whatever else is said of it.

Key of a timed id (UUIDv7): its 48 bits of milliseconds, then 80 bits of a keyed BLAKE2b over project_id, NUL, id.
Any other id: 128 bits of the same hash. `ended_at` is no part of the key: a repeat with another `ended_at` is a repeat.
"""

import datetime as dt
import hashlib
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from processor.calls import id_time_ms
from processor.counting.columns import Bools, Ints, Words
from processor.counting.totals import UNTIMED, US_PER_HOUR, Calls
from processor.limits import WORKER_AHEAD_HOURS

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

EPOCH: Final = dt.date(1970, 1, 1)
_MS_PER_DAY: Final = 86_400_000
_PG_EPOCH_DAY: Final = (dt.date(2000, 1, 1) - EPOCH).days  # PostgreSQL's dates count from 2000

KEY_BYTES: Final = 16
_TIME_BYTES: Final = 6

# One row of COPY's binary format: fields, each with its length before it. A table takes as many of the first as it has.
_FIELDS: Final = ("call_key", "content_hash", "record_offset", "partition", "day", "position")
_TYPES: Final = (f"V{KEY_BYTES}", ">i8", ">i8", ">i4", ">i4", ">i4")
_COUNT, _LENGTH = np.dtype(">i2"), np.dtype(">i4")
_ROW: Final = np.dtype(
    [("fields", _COUNT)]
    + [part for name, kind in zip(_FIELDS, _TYPES, strict=True) for part in ((f"{name}_bytes", _LENGTH), (name, kind))]
)
_COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_COPY_TRAILER: Final = b"\xff\xff"


@dataclass(frozen=True, slots=True)
class Repeats:
    """Positions in a batch: calls that repeat an earlier one, and those among them whose counted fields differ."""

    duplicates: set[int]
    conflicts: set[int]


@dataclass(frozen=True, slots=True)
class StagedKeys:
    """The first call of each key in a batch, in the order of the keys, and what the batch itself shows of repeats."""

    content_hashes: Ints  # of all calls, by position
    firsts: Ints  # positions of those that are staged
    rows: Any  # of each first: a _ROW
    hashes: Words  # of each first: the last 64 bits of its key
    is_timed: Bools  # of each first
    oldest_days: Ints  # of each first: the day since 1970 where a key of an earlier copy may lie
    first_of: Mapping[int, int]  # position of a repeat: of its first in this batch

    @property
    def timed_days(self) -> set[int]:
        """Days since 1970."""
        return set(np.unique(self.oldest_days[self.is_timed]).tolist())

    def positions(self, chosen: Bools) -> dict[uuid.UUID, int]:
        """Of these firsts, by `call_key`."""
        keys: list[bytes] = self.rows["call_key"][chosen].tolist()
        return {uuid.UUID(bytes=key): at for key, at in zip(keys, self.firsts[chosen].tolist(), strict=True)}

    def copied(self, timed: bool, columns: Sequence[str], without: Collection[int] = ()) -> bytes:
        """COPY's content for these first columns of a row, but for the firsts at the positions `without`; empty: there
        is none.
        """
        chosen = self.is_timed == timed
        if without:
            chosen &= ~np.isin(self.firsts, list(without))
        rows = self.rows[chosen]
        if not len(rows):
            return b""
        if tuple(columns) != _FIELDS[: len(columns)]:
            raise ValueError(f"a row begins with {_FIELDS}, not with {columns}")
        rows["fields"] = len(columns)
        size = _COUNT.itemsize + sum(_LENGTH.itemsize + _ROW[name].itemsize for name in columns)
        beginnings: Bytes = rows.view(np.uint8).reshape(len(rows), -1)[:, :size]
        return _COPY_HEADER + beginnings.tobytes() + _COPY_TRAILER

    def older_than(self, floor: int) -> list[int]:
        """Positions of the calls of which an earlier copy may have had its key on a day below this one."""
        positions: list[int] = self.firsts[self.oldest_days < floor].tolist()
        return sorted(positions)

    def repeats(self, counted_before: Mapping[int, int | None]) -> Repeats:
        """`counted_before`: by position of a first, the content hash of the call that was counted (None: unknown)."""
        duplicates = {*counted_before, *self.first_of}
        conflicts = {at for at in duplicates if self._winner(at, counted_before) not in (None, self.content_hashes[at])}
        return Repeats(duplicates, conflicts)

    def _winner(self, position: int, counted_before: Mapping[int, int | None]) -> int | None:
        first = self.first_of.get(position, position)
        return counted_before.get(first, self.content_hashes[first])


def stage(seed: bytes, calls: Calls) -> StagedKeys:
    """Pure. Of calls with the same key the first wins."""
    times_ms = np.asarray(calls.id_times_ms, np.int64)
    keys = _keys(seed, calls.identities, times_ms)
    high, low = np.ascontiguousarray(keys.view(">u8").T).astype(np.uint64)
    order = np.argsort(high, kind="stable")  # of equal keys the first call comes first
    is_first, differs = _changes(high[order]), _changes(low[order])
    if (differs > is_first).any():  # only their second halves tell them apart
        order = np.lexsort((low, high))
        is_first, differs = _changes(high[order]), _changes(low[order])
    is_first |= differs
    firsts, winner = order[is_first], np.cumsum(is_first) - 1
    content_hashes = np.asarray(calls.content_hashes, np.int64)
    is_timed = times_ms[firsts] != UNTIMED
    days = times_ms[firsts] // _MS_PER_DAY
    return StagedKeys(
        content_hashes,
        firsts=firsts,
        hashes=low[firsts],
        rows=_rows(keys, calls, firsts, content_hashes),
        is_timed=is_timed,
        oldest_days=np.where(is_timed, days, _oldest_day_of_end(np.asarray(calls.ended_at_us, np.int64)[firsts])),
        first_of=dict(zip(order[~is_first].tolist(), firsts[winner[~is_first]].tolist(), strict=True)),
    )


def _changes(sorted_words: Words) -> Bools:
    """Where another value begins."""
    return np.append(np.ones(min(1, len(sorted_words)), np.bool_), sorted_words[1:] != sorted_words[:-1])


def _keys(seed: bytes, identities: Sequence[tuple[str, str]], times_ms: Ints) -> Bytes:
    """`call_key` of each: (calls, KEY_BYTES)."""
    keys = np.empty((len(identities), KEY_BYTES), np.uint8)
    (timed,), (untimed,) = np.nonzero(times_ms != UNTIMED), np.nonzero(times_ms == UNTIMED)
    for chosen, digest_from in ((timed, _TIME_BYTES), (untimed, 0)):
        of = identities if len(chosen) == len(identities) else [identities[at] for at in chosen.tolist()]
        size = KEY_BYTES - digest_from
        digests = b"".join(_digests(hashlib.blake2b(digest_size=size, key=seed), of))
        keys[chosen, digest_from:] = np.frombuffer(digests, np.uint8).reshape(-1, size)
    keys[timed, :_TIME_BYTES] = times_ms[timed].astype(">i8").view(np.uint8).reshape(-1, 8)[:, -_TIME_BYTES:]
    return keys


def _digests(keyed: "hashlib.blake2b", identities: Collection[tuple[str, str]]) -> list[bytes]:
    """What a project's calls have in common is hashed once."""
    begin = {}
    for project_id in {project_id for project_id, _ in identities}:
        common = keyed.copy()
        common.update(f"{project_id}\0".encode())
        begin[project_id] = common.copy
    digests = []
    for project_id, call_id in identities:
        digest = begin[project_id]()
        digest.update(call_id.encode())
        digests.append(digest.digest())
    return digests


def _rows(keys: Bytes, calls: Calls, positions: Ints, content_hashes: Ints) -> Any:
    rows = np.empty(len(positions), _ROW)
    for name in _FIELDS:
        rows[f"{name}_bytes"] = _ROW[name].itemsize
    rows["call_key"] = keys[positions].view(f"V{KEY_BYTES}")[:, 0]
    rows["content_hash"] = content_hashes[positions]
    rows["record_offset"] = np.asarray(calls.offsets, np.int64)[positions]
    rows["partition"] = np.asarray(calls.partitions, np.int64)[positions]
    rows["day"] = np.asarray(calls.record_times_ms, np.int64)[positions] // _MS_PER_DAY - _PG_EPOCH_DAY
    rows["position"] = positions
    return rows


def call_key(seed: bytes, project_id: str, call_id: str) -> tuple[bytes, int | None]:
    """16 bytes, and the day since 1970 of a timed id (None: untimed)."""
    text = f"{project_id}\0{call_id}".encode()
    time_ms = id_time_ms(call_id)
    if time_ms is None:
        return hashlib.blake2b(text, digest_size=KEY_BYTES, key=seed).digest(), None
    digest = hashlib.blake2b(text, digest_size=KEY_BYTES - _TIME_BYTES, key=seed).digest()
    return time_ms.to_bytes(_TIME_BYTES, "big") + digest, time_ms // _MS_PER_DAY


def oldest_day(key_day: int | None, ended_at_us: int) -> int:
    """The first day since 1970 under which a key of this call can stand: that of its id, or else of its first record,
    which may be so much older than the call's end."""
    return key_day if key_day is not None else int(_oldest_day_of_end(ended_at_us))


def _oldest_day_of_end(ended_at_us: Any) -> Any:
    return (ended_at_us // US_PER_HOUR - WORKER_AHEAD_HOURS) // 24
