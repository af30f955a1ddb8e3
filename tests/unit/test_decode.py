"""The worker's decoding: whatever the native library does, no record is lost and none is counted wrongly."""

import gc
import resource
import tracemalloc
from random import Random
from typing import Any

import pyruhvro
import pytest

from processor.codec.columns import NativeFailure
from processor.codec.framing import HEADER_V1
from processor.errors import DeadLetterReason
from processor.worker.decode import Decoder, decode_columns, decode_rows
from tests import avro_bytes as avro
from tests.factories import NOON_MS, NOON_US, FakeRecord, uuid7
from tests.hostile import text, values, varint

HORIZON_DAYS = 35


def mixed(count: int = 200) -> list[FakeRecord]:
    return [FakeRecord(offset, payload=value) for offset, value in enumerate(values(Random(3), count))]


class Panic(BaseException):
    """As pyo3 raises it: no Exception."""


@pytest.fixture
def failures() -> list[NativeFailure]:
    return []


@pytest.fixture
def decoder(failures: list[NativeFailure]) -> Decoder:
    return Decoder(HORIZON_DAYS, failures.append)


def test_an_empty_batch_is_empty(decoder: Decoder, failures: list[NativeFailure]) -> None:
    decoded = decoder([])
    assert (list(decoded.calls.identities), decoded.rejects, decoded.tombstones) == ([], (), ())
    assert decoded.calls.fold(set()).outcomes == {}
    assert not failures


def test_a_batch_without_one_good_record_names_the_reason_of_each(decoder: Decoder) -> None:
    decoded = decoder(
        [FakeRecord(0, payload=b"{}"), FakeRecord(1, payload=HEADER_V1 + b"\xff"), FakeRecord(2, payload=None)]
    )
    assert [reject.rejected.reason for reject in decoded.rejects] == [DeadLetterReason.UNDECODABLE] * 2
    assert [tombstone.offset() for tombstone in decoded.tombstones] == [2]


@pytest.mark.parametrize("error", [Panic("index out of bounds"), RuntimeError("odd"), MemoryError()])
def test_when_the_native_library_fails_the_row_path_decodes_the_batch(
    error: BaseException, decoder: Decoder, failures: list[NativeFailure], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr("pyruhvro.deserialize_array", fails)
    records = mixed()
    decoded, rows = decoder(records), decode_rows(records, HORIZON_DAYS)
    assert decoded.calls.identities == rows.calls.identities
    assert [reject.record for reject in decoded.rejects] == [reject.record for reject in rows.rejects]
    assert len(failures) == 1


def test_when_columns_refuse_what_rows_count_the_row_path_decides(
    decoder: Decoder, failures: list[NativeFailure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processor.worker.decode.breaches", lambda found, *_: found.columns.failed | True)
    records = mixed()
    assert decoder(records).calls.identities == decode_rows(records, HORIZON_DAYS).calls.identities
    assert len(failures) == 1


def test_a_batch_that_is_mostly_broken_is_left_to_the_rows_and_is_no_failure(
    decoder: Decoder, failures: list[NativeFailure]
) -> None:
    records = [FakeRecord(n, payload=good(n) if n % 2 else HEADER_V1 + b"\xff") for n in range(1000)]
    decoded = decoder(records)
    assert (len(decoded.rejects), list(decoded.calls.offsets)) == (500, list(range(1, 1000, 2)))
    assert not failures


def good(number: int) -> bytes:
    return HEADER_V1 + text("a/b") + text(f"call-{number}") + varint(NOON_US) + b"\0" * 4


def test_a_stop_signal_during_a_native_call_is_not_taken_for_its_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pyruhvro.deserialize_array", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decode_columns(mixed(), HORIZON_DAYS)


@pytest.mark.parametrize("size", [2**31, 2**40, 2**62, 2**63 - 1])
@pytest.mark.parametrize("place", ["project_id", "models", "statuses"])
def test_a_length_or_count_larger_than_the_record_is_refused_before_anything_is_allocated(
    size: int, place: str
) -> None:
    before = {
        "project_id": b"",
        "models": text("a/b") + text("i") + varint(0) + b"\0",
        "statuses": text("a/b") + text("i") + varint(0) + b"\0\0",
    }[place]
    record = FakeRecord(0, payload=HEADER_V1 + before + varint(size) + b"\0" * 20)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    decoded = decode_columns([record], HORIZON_DAYS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 64 * 1024  # KiB
    assert [reject.rejected.reason for reject in decoded.rejects] == [DeadLetterReason.UNDECODABLE]


FAR_TIMES_MS = (NOON_MS + 2**61, NOON_MS - 2**61, -(2**63), 2**63 - 1, -(2**52), 2**52, -1, 0)


@pytest.mark.parametrize("time_ms", FAR_TIMES_MS)
@pytest.mark.parametrize("call_id", ["call-1", uuid7(1)])
def test_times_that_overflow_64_bits_are_judged_as_in_the_row_path(
    call_id: str, time_ms: int, decoder: Decoder, failures: list[NativeFailure]
) -> None:
    """A thousand times 2^61 is 0 in 64 bits: such a record would look as if it came when the call ended."""
    for ended_at_us in (NOON_US, 0, 2**63 - 1, -(2**63)):
        value = avro.value(call_id=call_id, ended_at_us=ended_at_us)
        decoded = decoder([FakeRecord(0, payload=value, time_ms=time_ms)])
        reasons = [reject.rejected.reason for reject in decoded.rejects]
        is_counted = call_id == "call-1" and (ended_at_us, time_ms) in {(0, 0), (0, -1)}
        assert reasons == ([] if is_counted else [DeadLetterReason.OUTSIDE_HORIZON])
    assert not failures


def test_columns_count_a_call_with_as_many_models_and_statuses_as_it_may_have_and_no_more() -> None:
    for models, statuses, is_counted in ((256, 64, True), (257, 64, False), (256, 65, False)):
        value = avro.value(
            usage=[avro.usage_entry(f"m{n}", 1) for n in range(models)],
            status_counts=[avro.status_entry(f"s{n}", 1) for n in range(statuses)],
        )
        decoded = decode_columns([FakeRecord(0, payload=value)], HORIZON_DAYS)
        assert (len(decoded.calls.offsets), len(decoded.rejects)) == (is_counted, not is_counted)


def test_a_record_with_far_too_many_entries_costs_no_more_memory_than_its_own_size() -> None:
    entries = 200_000
    hostile = avro.value(status_counts=avro.long(entries) + avro.status_entry("", 0) * entries + avro.long(0))
    good = avro.value(usage=[avro.usage_entry("m", 1)])
    tracemalloc.start()
    decoded = decode_columns(
        [FakeRecord(offset, payload=value) for offset, value in enumerate((good, hostile, good))], HORIZON_DAYS
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert list(decoded.calls.offsets) == [0, 2]
    assert [reject.rejected.reason for reject in decoded.rejects] == [DeadLetterReason.INVALID]
    assert peak < 2 * len(hostile)


def test_a_large_batch_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []

    def deserialize(bodies: Any, schema: str) -> Any:
        sizes.append((len(bodies), sum(map(len, bodies))))
        return deserialize_array(bodies, schema)

    deserialize_array = pyruhvro.deserialize_array
    monkeypatch.setattr("pyruhvro.deserialize_array", deserialize)
    monkeypatch.setattr("processor.codec.columns.PIECE_BYTES", 500)
    records = mixed(300)
    decoded, rows = decode_columns(records, HORIZON_DAYS), decode_rows(records, HORIZON_DAYS)
    assert decoded.calls.identities == rows.calls.identities
    assert list(decoded.calls.offsets) == rows.calls.offsets
    assert max(size for count, size in sizes if count > 1) <= 500


def test_nothing_of_a_refused_record_outlives_its_batch() -> None:
    """No hash is cached, and no cycle leads through the frames of an exception: that would wait for the collector."""
    size = 100_000
    gc.disable()
    tracemalloc.start()
    for batch in range(20):
        named = avro.value(usage=[avro.usage_entry(f"{batch}" + "x" * size)])
        cut = named[:-size]
        decoded = decode_columns([FakeRecord(0, payload=named), FakeRecord(1, payload=cut)], HORIZON_DAYS)
        assert list(decoded.calls.content_hashes) == []
        assert len(decoded.rejects) == 2
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gc.enable()
    assert left < 10 * size
