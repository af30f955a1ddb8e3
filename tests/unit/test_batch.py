from processor.batch import Contiguity, PartitionBuffer
from tests.factories import FakeRecord


def buffer_with(*offsets: int, start: int = 10) -> PartitionBuffer:
    buffer = PartitionBuffer(start)
    for offset in offsets:
        assert buffer.accept(FakeRecord(offset)) is Contiguity.TAKEN
    return buffer


def gap_of(buffer: PartitionBuffer) -> int:
    return buffer.unwritten - len(buffer.records)


def test_records_in_order_are_taken() -> None:
    buffer = buffer_with(10, 11, 12)
    assert (buffer.expected, len(buffer.records), gap_of(buffer)) == (13, 3, 0)


def test_a_record_below_the_expected_offset_is_dropped() -> None:
    buffer = buffer_with(10, 11)
    assert buffer.accept(FakeRecord(11)) is Contiguity.DROPPED
    assert buffer.accept(FakeRecord(3)) is Contiguity.DROPPED
    assert (buffer.expected, len(buffer.records)) == (12, 2)


def test_a_hole_is_read_again_and_if_the_client_had_lost_it_it_is_filled() -> None:
    buffer = buffer_with(10)
    assert buffer.accept(FakeRecord(13)) is Contiguity.HOLE
    assert buffer.read_again() == 11
    for offset in (11, 12, 13):
        assert buffer.accept(FakeRecord(offset)) is Contiguity.TAKEN
    assert gap_of(buffer) == 0


def test_only_the_same_hole_found_again_is_a_gap_of_the_log() -> None:
    buffer = buffer_with(10)
    for found in (13, 14, 13):
        assert buffer.accept(FakeRecord(found)) is Contiguity.HOLE  # each time another one than the last
        assert buffer.read_again() == 11
    assert buffer.accept(FakeRecord(13)) is Contiguity.TAKEN
    assert (gap_of(buffer), buffer.expected) == (2, 14)


def test_a_hole_that_could_not_be_read_again_counts_as_not_seen() -> None:
    buffer = buffer_with(10)
    for _ in range(3):
        assert buffer.accept(FakeRecord(13)) is Contiguity.HOLE
        assert buffer.read_again() == 11
        buffer.forget_gaps()
    assert buffer.accept(FakeRecord(13)) is Contiguity.HOLE
    buffer.read_again()
    assert buffer.accept(FakeRecord(13)) is Contiguity.TAKEN


def test_behind_a_hole_nothing_is_taken_and_more_gaps_are_seen_for_the_first_time() -> None:
    buffer = buffer_with(10)
    for offset in (13, 14, 17, 18):
        assert buffer.accept(FakeRecord(offset)) is Contiguity.HOLE
    assert buffer.accept_end(20) is Contiguity.HOLE
    assert (buffer.read_again(), len(buffer.records)) == (11, 1)
    for offset in (13, 14, 17, 18):
        assert buffer.accept(FakeRecord(offset)) is Contiguity.TAKEN
    assert buffer.accept_end(20) is Contiguity.TAKEN
    assert (gap_of(buffer), buffer.expected) == (2 + 2 + 1, 20)


def test_a_record_that_is_lost_behind_a_hole_is_taken_when_it_comes() -> None:
    buffer = buffer_with(10)
    for offset in (13, 15):
        assert buffer.accept(FakeRecord(offset)) is Contiguity.HOLE
    buffer.read_again()
    for offset in (13, 14, 15):
        assert buffer.accept(FakeRecord(offset)) is Contiguity.TAKEN
    assert gap_of(buffer) == 2


def test_a_gap_that_was_seen_behind_one_that_is_not_there_counts_for_nothing() -> None:
    buffer = buffer_with(10)
    for offset in (13, 15):
        assert buffer.accept(FakeRecord(offset)) is Contiguity.HOLE
    buffer.read_again()
    assert buffer.accept(FakeRecord(12)) is Contiguity.HOLE  # the first gap is another one
    buffer.read_again()
    for offset in (12, 13):
        buffer.accept(FakeRecord(offset))
    assert buffer.accept(FakeRecord(15)) is Contiguity.HOLE


def test_records_that_come_together_are_taken_as_one_by_one() -> None:
    together, one_by_one = buffer_with(10), buffer_with(10)
    for reading in ([11, 12], [12, 13], [15, 16], [14, 17], [14, 15]):
        records = [FakeRecord(offset, payload=b"xy") for offset in reading]
        found = [one_by_one.accept(record) for record in records]
        assert (together.accept_all(records) is Contiguity.HOLE) == (Contiguity.HOLE in found)
        if Contiguity.HOLE in found:
            assert together.read_again() == one_by_one.read_again()
        assert (together.records, together.expected) == (one_by_one.records, one_by_one.expected)
        assert together.size_bytes == one_by_one.size_bytes
    assert [record.offset() for record in together.records] == [10, 11, 12, 13, 14, 15]


def test_what_lies_before_the_end_of_the_log_is_a_gap_if_it_is_found_again() -> None:
    buffer = buffer_with(10)
    assert buffer.accept_end(13) is Contiguity.HOLE
    assert buffer.read_again() == 11
    assert buffer.accept_end(13) is Contiguity.TAKEN
    assert (gap_of(buffer), buffer.expected, buffer.end_of(buffer.records)) == (2, 13, 13)


def test_the_end_of_a_log_without_a_gap_changes_nothing() -> None:
    buffer = buffer_with(10)
    assert buffer.accept_end(11) is Contiguity.TAKEN
    assert buffer.accept_end(10) is Contiguity.DROPPED  # told before the last record was handed over
    assert (gap_of(buffer), buffer.expected) == (0, 11)


def test_some_of_the_records_reach_up_to_the_last_of_them() -> None:
    buffer = buffer_with(10, 11)
    assert (buffer.end_of(buffer.records[:1]), buffer.end_of(buffer.records)) == (11, 12)


def test_what_is_written_leaves_the_buffer_and_what_came_later_stays() -> None:
    buffer = buffer_with(10, 11, 12)
    buffer.dead_letters_sent = {10, 12}
    buffer.written(12)
    assert [record.offset() for record in buffer.records] == [12]
    assert (buffer.start, buffer.expected, buffer.dead_letters_sent, gap_of(buffer)) == (12, 13, {12}, 0)


def test_what_a_late_commit_has_written_is_dropped_when_it_is_read_again() -> None:
    buffer = buffer_with(10)
    buffer.written(12)
    assert buffer.accept(FakeRecord(11)) is Contiguity.DROPPED
    assert buffer.accept(FakeRecord(12)) is Contiguity.TAKEN
    assert gap_of(buffer) == 0
