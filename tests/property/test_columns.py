"""One verdict: rows and columns accept, reject and count the same, whatever the bytes."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from processor.batch import Decoded
from processor.worker.decode import decode_columns, decode_rows
from tests.factories import NOON_MS, FakeRecord
from tests.hostile import values
from tests.property.cases import LAW

HORIZON_DAYS = 35
LATE_MS = (0,) * 30 + (1, -1) * 5 + (2**61, -(2**61))  # a thousand times 2^61 is 0 in 64 bits


def assert_one_verdict(r: Random, count: int) -> Decoded:
    records = [
        FakeRecord(offset, of=offset % 3, payload=value, time_ms=NOON_MS + r.choice(LATE_MS))
        for offset, value in enumerate(values(r, count))
    ]
    rows, columns = decode_rows(records, HORIZON_DAYS), decode_columns(records, HORIZON_DAYS)
    assert [(each.record, each.rejected.reason, each.rejected.detail) for each in columns.rejects] == [
        (each.record, each.rejected.reason, each.rejected.detail) for each in rows.rejects
    ]
    assert columns.tombstones == rows.tombstones
    for name in (
        "identities", "id_times_ms", "ended_at_us", "content_hashes", "partitions", "offsets", "record_times_ms"
    ):  # fmt: skip
        assert list(getattr(columns.calls, name)) == list(getattr(rows.calls, name)), name
    left_out = {call for call in range(len(rows.calls.offsets)) if r.random() < 0.2}
    assert columns.calls.fold(left_out) == rows.calls.fold(left_out)
    return columns


@LAW
@given(st.integers(0, 2**64), st.integers(0, 30))
def test_rows_and_columns_give_one_verdict(seed: int, count: int) -> None:
    assert_one_verdict(Random(seed), count)


def test_rows_and_columns_give_one_verdict_on_a_large_batch() -> None:
    decoded = assert_one_verdict(Random(7), 150)
    assert len(decoded.calls.offsets) > 30
    assert len(decoded.rejects) > 30
