"""Two sorted streams of rows, compared."""

from collections.abc import Iterable

import pytest

from processor.audit.verify import Compared, Difference, differences, refuse_if_nothing_was_compared
from processor.errors import ExitCode, Stop
from processor.ledger import Key, Row


def key(name: str) -> Key:
    return "usage_totals", "acme/chat", 5, name, "leaf"


A, B, C = (key(name) for name in "abc")


@pytest.mark.parametrize(
    ("stored", "recounted", "found"),
    [
        ([], [], []),
        ([(A, (1, 0)), (B, (2, 0))], [(A, (1, 0)), (B, (2, 0))], []),
        ([(A, (1, 0)), (B, (3, 0))], [(A, (1, 0)), (B, (2, 0))], [Difference(B, (3, 0), (2, 0))]),
        ([(B, (2, 0))], [(A, (0, 0)), (B, (2, 0))], [Difference(A, None, (0, 0))]),
        (
            [(A, (1, 0)), (B, (2, 0)), (C, (0, 0))],
            [(B, (2, 0))],
            [Difference(A, (1, 0), None), Difference(C, (0, 0), None)],
        ),
        ([(A, (1, 0))], [(A, None), (B, None)], []),  # nobody knows
    ],
)  # fmt: skip
def test_every_row_that_differs_is_missing_or_is_one_too_many_is_found(
    stored: Iterable[Row], recounted: Iterable[Row], found: list[Difference]
) -> None:
    assert list(differences(stored, recounted, Compared())) == found


def test_what_was_compared_is_counted() -> None:
    compared = Compared()
    list(differences([(A, (1,))], [(A, None), (B, (1,))], compared))
    assert (compared.rows, compared.unknown) == (2, 1)


@pytest.mark.parametrize(
    ("compared", "project", "code", "sentence"),
    [
        (Compared(0, 0), "no/where", ExitCode.USAGE, "neither the totals nor the log have a call of project no/where"),
        (Compared(0, 0), None, ExitCode.DEPENDENCY, "have a call yet"),
        (Compared(3, 3), None, ExitCode.DEPENDENCY, "each of the 3 rows holds calls whose keys may be gone"),
    ],
)
def test_that_nothing_was_compared_is_never_ok(
    compared: Compared, project: str | None, code: ExitCode, sentence: str
) -> None:
    with pytest.raises(Stop, match=sentence) as stopped:
        refuse_if_nothing_was_compared(compared, project)
    assert stopped.value.exit_code is code
    refuse_if_nothing_was_compared(Compared(4, 3), project)
