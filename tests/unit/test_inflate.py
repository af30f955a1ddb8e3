"""gzip: what is inflated, and what stops it."""

import gzip
import tracemalloc
import zlib
from random import Random
from time import perf_counter

import pytest

from processor.errors import InvalidCall, TooLarge, Unavailable
from processor.ingest.inflate import MAX_MEMBERS, MAX_RATIO, MIB, STEP_BYTES, inflate


def take_all(_: int) -> None:
    pass


@pytest.mark.parametrize("content", [b"", b"{}", Random(1).randbytes(3 * STEP_BYTES), b"x" * MIB])
def test_what_was_compressed_comes_back(content: bytes) -> None:
    assert inflate(gzip.compress(content, mtime=0), 8 * MIB, take_all) == content


def test_members_that_follow_each_other_are_one_body() -> None:
    parts = [Random(i).randbytes(i * 1000) for i in range(100)]
    assert inflate(b"".join(map(gzip.compress, parts)), 8 * MIB, take_all) == b"".join(parts)


def test_a_bomb_is_stopped_at_its_limit_and_never_held() -> None:
    once = gzip.compress(bytes(100 * MIB))
    tracemalloc.start()
    with pytest.raises(TooLarge) as caught:
        inflate(once, 8 * MIB, take_all)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.limit_bytes == 8 * MIB
    assert peak < 9 * MIB


def test_what_swells_more_than_text_does_is_stopped_before_the_limit() -> None:
    bomb = gzip.compress(bytes(4 * MIB))
    with pytest.raises(TooLarge, match=f"inflated to more than {MAX_RATIO} times its size") as caught:
        inflate(bomb, 8 * MIB, take_all)
    assert caught.value.limit_bytes == max(MIB, MAX_RATIO * len(bomb)) < 4 * MIB


def test_each_step_is_taken_from_the_budget_before_the_next() -> None:
    taken: list[int] = []

    def take(count: int) -> None:
        taken.append(count)
        if sum(taken) > 3 * STEP_BYTES:
            raise Unavailable("no budget")

    with pytest.raises(Unavailable):
        inflate(gzip.compress(Random(2).randbytes(20 * STEP_BYTES)), 8 * MIB, take)
    assert 3 * STEP_BYTES < sum(taken) <= 4 * STEP_BYTES


def test_a_million_members_are_refused_soon() -> None:
    began_s = perf_counter()
    with pytest.raises(InvalidCall, match=f"at most {MAX_MEMBERS} gzip members"):
        inflate(gzip.compress(b"", mtime=0) * 400_000, 8 * MIB, take_all)
    assert perf_counter() - began_s < 2


@pytest.mark.parametrize(
    "broken",
    [b"", b"{}", gzip.compress(b"{}", mtime=0)[:-1], gzip.compress(b"{}", mtime=0) + b"{}", zlib.compress(b"{}"),
     gzip.compress(b"{}", mtime=0)[:-8] + bytes(8), gzip.compress(b"{}", mtime=0)[:10]],
)  # fmt: skip
def test_what_is_not_gzip_or_not_all_of_it_is_an_invalid_call(broken: bytes) -> None:
    with pytest.raises(InvalidCall):
        inflate(broken, 8 * MIB, take_all)
