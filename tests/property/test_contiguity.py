"""Whatever gaps a log has, and whatever the client loses once: every record is taken, in order, and nothing else."""

from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from processor.batch import Contiguity, PartitionBuffer, offset_of
from tests.factories import FakeRecord
from tests.property.cases import LAW

OFFSETS = st.integers(0, 60)


@LAW
@given(
    log=st.sets(OFFSETS).map(sorted),
    lost=st.sets(OFFSETS),
    behind=st.integers(0, 5),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
)
def test_a_gap_is_passed_and_a_record_never(log: list[int], lost: set[int], behind: int, sizes: list[int]) -> None:
    """`lost`: not handed over the first time; `behind`: offsets after the last record; `sizes`: of the readings."""
    end = (log[-1] + 1 if log else 0) + behind
    buffer, position, lost = PartitionBuffer(0), 0, set(lost)
    readings = cycle(sizes)
    for _ in range(4 * (len(log) + 2)):
        reading = [offset for offset in log if offset >= position][: next(readings)]
        position = reading[-1] + 1 if reading else position
        results = [buffer.accept_all([FakeRecord(offset) for offset in reading if offset not in lost])]
        lost -= set(reading)
        if not any(offset >= position for offset in log):
            results.append(buffer.accept_end(end))
        if Contiguity.HOLE in results:
            position = buffer.read_again()
        if buffer.expected == end:
            break
    assert [offset_of(record) for record in buffer.records] == log
    assert (buffer.expected, buffer.end_of(buffer.records)) == (end, end)
