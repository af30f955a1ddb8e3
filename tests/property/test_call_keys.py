"""The keys of a batch, as columns, are those of its calls one by one."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.counting.rows import CallRows
from processor.sinks.postgres.call_keys import call_key, oldest_day, stage
from tests.factories import NOON_MS, NOON_US, counted, uuid7
from tests.property.cases import LAW

SEED: Final = b"seed of the installation"
DAY_MS: Final = 86_400_000
PG_EPOCH_DAY: Final = 10_957  # 2000-01-01

ids = st.one_of(
    st.builds(uuid7, st.integers(0, 5), st.sampled_from([NOON_MS, NOON_MS - DAY_MS, NOON_MS + 1])),
    st.sampled_from(["a", "b", "später", uuid7(1, 0), uuid7(1).upper()]),
)
projects = st.sampled_from(["acme/chat", "acme/später", "a/b"])


COLUMNS: Final = {
    "call_key": "16s", "content_hash": "q", "record_offset": "q", "partition": "i", "day": "i", "position": "i",
}  # fmt: skip


def rows_of(content: bytes, columns: Sequence[str] = tuple(COLUMNS)) -> Iterator[tuple[Any, ...]]:
    """What COPY's content says, row by row."""
    if not content:
        return
    assert content[:19] == b"PGCOPY\n\xff\r\n\x00" + bytes(8)
    assert content[-2:] == b"\xff\xff"
    row = struct.Struct(">h" + "".join(f"i{COLUMNS[name]}" for name in columns))
    assert (len(content) - 21) % row.size == 0
    for fields, *parts in row.iter_unpack(content[19:-2]):
        assert (fields, parts[::2]) == (len(columns), [struct.calcsize(f">{COLUMNS[name]}") for name in columns])
        yield tuple(parts[1::2])


@LAW
@given(st.lists(st.tuples(projects, ids, st.integers(0, 2))))
def test_staging_says_of_each_call_what_its_key_says(batch: list[tuple[str, str, int]]) -> None:
    calls = CallRows()
    for position, (project_id, call_id, later) in enumerate(batch):
        call = counted(call_id, project_id=project_id, ended_at_us=NOON_US + later)
        calls.append(call, later, 100 + position, NOON_MS + later * DAY_MS)
    staged = stage(SEED, calls)

    first: dict[bytes, int] = {}
    repeats: dict[int, int] = {}
    for position, (project_id, call_id, _) in enumerate(batch):
        winner = first.setdefault(call_key(SEED, project_id, call_id)[0], position)
        if winner != position:
            repeats[position] = winner
    assert staged.first_of == repeats
    copied = {timed: staged.copied(timed, tuple(COLUMNS)) for timed in (True, False)}
    found = [(*row, timed) for timed, content in copied.items() for row in rows_of(content)]
    assert sorted(found) == sorted(
        (key, calls.content_hashes[at], calls.offsets[at], calls.partitions[at],
         calls.record_times_ms[at] // DAY_MS - PG_EPOCH_DAY, at, call_key(SEED, *batch[at][:2])[1] is not None)
        for key, at in first.items()
    )  # fmt: skip
    for timed, content in copied.items():
        rows = list(rows_of(content))
        assert rows == sorted(rows)  # two workers that meet the same keys wait for each other, never for ever
        for size in range(1, len(COLUMNS)):
            columns = tuple(COLUMNS)[:size]
            assert list(rows_of(staged.copied(timed, columns), columns)) == [row[:size] for row in rows]
    keys = sorted(first)
    assert staged.firsts.tolist() == [first[key] for key in keys]
    assert staged.hashes.tolist() == [int.from_bytes(key[8:], "big") for key in keys]
    every_other = np.arange(len(keys)) % 2 == 0
    assert staged.positions(every_other) == {UUID(bytes=key): first[key] for key in keys[::2]}
    left_out = [first[key] for key in keys[::2]]
    kept = [row[0] for timed in copied for row in rows_of(staged.copied(timed, tuple(COLUMNS), left_out))]
    assert sorted(kept) == keys[1::2]
    days = {at: call_key(SEED, *batch[at][:2])[1] for at in first.values()}
    assert staged.timed_days == {day for day in days.values() if day is not None}
    oldest = {at: oldest_day(day, calls.ended_at_us[at]) for at, day in days.items()}
    assert dict(zip(staged.firsts.tolist(), staged.oldest_days.tolist(), strict=True)) == oldest
    for floor in {*oldest.values(), max(oldest.values(), default=0) + 1}:
        assert staged.older_than(floor) == sorted(at for at, day in oldest.items() if day < floor)


def test_a_key_depends_on_the_installation() -> None:
    keys = {call_key(seed, "acme/chat", uuid7(1))[0] for seed in (b"one", b"two")}
    assert len(keys) == 2


@pytest.mark.parametrize(("call_id", "size"), [(uuid7(1), 6), ("a", 0)])
def test_a_key_begins_with_the_time_of_its_id_if_that_has_one(call_id: str, size: int) -> None:
    key, day = call_key(SEED, "acme/chat", call_id)
    assert key[:size] == NOON_MS.to_bytes(6, "big")[:size]
    assert day == (NOON_MS // DAY_MS if size else None)
