"""Rows of totals in sorted runs."""

from pathlib import Path
from random import Random

import pytest

from processor.audit.runs import Sums, added_up, plus, spool
from processor.ledger import Key, Row


def key(number: int) -> Key:
    return "usage_totals", f"acme/{number % 7}", number // 7, "gpt-4o", "leaf"


@pytest.mark.parametrize("in_memory", [1, 10, 1000])
def test_sums_are_the_same_however_few_fit_into_memory(tmp_path: Path, in_memory: int) -> None:
    r = Random(3)
    sums, expected = Sums(tmp_path, in_memory), dict[Key, int]()
    for _ in range(500):
        number, tokens = r.randrange(100), r.randrange(-5, 100)
        sums.add(key(number), (tokens,))
        expected[key(number)] = expected.get(key(number), 0) + tokens
    assert list(sums.sorted()) == [(of, (total,)) for of, total in sorted(expected.items())]


def test_rows_that_were_put_aside_come_back_as_often_as_they_are_asked_for(tmp_path: Path) -> None:
    rows: list[Row] = [(key(number), (number,)) for number in range(2500)]
    aside = spool(rows, tmp_path / "rows")
    assert list(aside) == list(aside) == rows


def test_an_absent_number_is_0_and_what_is_not_known_stays_so() -> None:
    assert plus((1, 2), (3,)) == (4, 2)
    assert plus(None, (3,)) is plus((3,), None) is None


def test_streams_are_merged_by_key() -> None:
    left: list[Row] = [(key(1), (1,)), (key(3), (1,))]
    right: list[Row] = [(key(0), (5,)), (key(3), (2,))]
    assert list(added_up(left, right)) == sorted([(key(0), (5,)), (key(1), (1,)), (key(3), (3,))])
