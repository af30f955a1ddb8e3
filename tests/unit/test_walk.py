"""Every offset is passed once and in order, whatever the client hands over."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from processor.audit.walk import SILENT_S, Passage, walk
from processor.batch import Reading
from processor.errors import Unavailable
from tests.factories import FakeRecord


@dataclass
class FakeLog:
    """Offsets of partitions; `lose`: not handed over the first time."""

    offsets: Mapping[int, list[int]]
    ends: Mapping[int, int]
    lose: set[int] = field(default_factory=set)
    positions: dict[int, int] = field(default_factory=dict)
    at_once: int = 3

    def begin(self, offsets: Mapping[int, int]) -> None:
        self.positions = dict(offsets)

    def end(self, partition: int) -> None:
        del self.positions[partition]

    def seek(self, offsets: Mapping[int, int]) -> None:
        self.positions.update(offsets)

    def read(self, max_records: int, timeout_s: float) -> Reading:
        records, ends = [], {}
        for partition, position in self.positions.items():
            coming = [offset for offset in self.offsets[partition] if offset >= position][: self.at_once]
            records += [FakeRecord(offset, of=partition) for offset in coming if offset not in self.lose]
            self.lose -= set(coming)
            if coming:
                self.positions[partition] = coming[-1] + 1
            elif position <= self.ends[partition]:
                ends[partition] = self.ends[partition]
                self.positions[partition] = self.ends[partition] + 1
        return Reading(records, ends)


def walked(log: FakeLog, starts: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, list[Passage]]:
    found: dict[int, list[Passage]] = {partition: [] for partition in starts}
    ticks = iter(range(10_000))
    for passages in walk(log, starts, ends, lambda: next(ticks) / 10):
        for passage in passages:
            found[passage.partition].append(passage)
    return found


def offsets(passages: list[Passage]) -> list[int]:
    return [record.offset() or 0 for passage in passages for record in passage.records]


def test_it_ends_where_it_is_told_to_although_the_log_goes_on() -> None:
    found = walked(FakeLog({0: list(range(20)), 1: list(range(20))}, {0: 20, 1: 20}), {0: 2, 1: 5}, {0: 10, 1: 5})
    assert offsets(found[0]) == list(range(2, 10))
    assert found[1] == []
    assert [passage.start for passage in found[0]][1:] == [passage.end for passage in found[0]][:-1]
    assert found[0][-1].end == 10


def test_a_record_that_the_client_loses_is_read_again() -> None:
    log = FakeLog({0: list(range(12))}, {0: 12}, lose={4, 9})
    assert offsets(walked(log, {0: 0}, {0: 12})[0]) == list(range(12))


def test_gaps_of_the_log_are_passed_in_the_middle_and_at_its_end() -> None:
    log = FakeLog({0: [0, 1, 5, 6, 9]}, {0: 12})
    passages = walked(log, {0: 0}, {0: 12})[0]
    assert offsets(passages) == [0, 1, 5, 6, 9]
    assert sum(passage.gap_offsets for passage in passages) == 7
    assert passages[-1].end == 12


def test_a_log_that_says_nothing_for_long_is_unavailable() -> None:
    log = FakeLog({0: [0]}, {0: 1})
    with pytest.raises(Unavailable, match=f"{SILENT_S:.0f} s"):
        walked(log, {0: 0}, {0: 5})
