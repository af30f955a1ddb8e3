"""Rows of totals, more than fit into memory: sorted runs on disk, merged when they are read.

Rows are added up: a number that is absent, because its field was added later, is 0.
"""

import heapq
import pickle
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import add, itemgetter
from pathlib import Path
from typing import Final

from processor.ledger import Key, Numbers, Row

IN_MEMORY: Final = 100_000  # rows; about 50 MB
_CHUNK: Final = 1000


def spool(rows: Iterable[Row], file: Path) -> Iterable[Row]:
    """Rows that come sorted, to be read later."""
    rows = iter(rows)
    with file.open("wb") as output:
        while chunk := list(islice(rows, _CHUNK)):
            pickle.dump(chunk, output)
    return _Spooled(file)


class Sums:
    """Rows are added up by key."""

    def __init__(self, folder: Path, in_memory: int = IN_MEMORY) -> None:
        self._folder = folder
        self._in_memory = in_memory
        self._rows: dict[Key, Numbers] = {}
        self._runs: list[Iterable[Row]] = []

    def add(self, key: Key, numbers: Numbers) -> None:
        self._rows[key] = plus(self._rows[key], numbers) if key in self._rows else numbers
        if len(self._rows) >= self._in_memory:
            self._runs.append(spool(sorted(self._rows.items(), key=itemgetter(0)), self._next_file()))
            self._rows.clear()

    def sorted(self) -> Iterator[Row]:
        return added_up(*self._runs, sorted(self._rows.items(), key=itemgetter(0)))

    def _next_file(self) -> Path:
        return self._folder / f"run-{len(self._runs)}"


def added_up(*sorted_rows: Iterable[Row]) -> Iterator[Row]:
    """One row for each key; each of `sorted_rows` is sorted by key."""
    current: Row | None = None
    for row in heapq.merge(*sorted_rows, key=itemgetter(0)):
        if current is None or row[0] != current[0]:
            if current is not None:
                yield current
            current = row
        else:
            current = current[0], plus(current[1], row[1])
    if current is not None:
        yield current


def plus(one: Numbers, other: Numbers) -> Numbers:
    """What is not known stays so, whatever is added."""
    if one is None or other is None:
        return None
    longest = max(len(one), len(other))
    return tuple(map(add, _padded(one, longest), _padded(other, longest)))


def _padded(numbers: tuple[int, ...], length: int) -> tuple[int, ...]:
    return numbers + (0,) * (length - len(numbers))


class _Spooled:
    def __init__(self, file: Path) -> None:
        self._file = file

    def __iter__(self) -> Iterator[Row]:
        with self._file.open("rb") as chunks:
            while True:
                try:
                    chunk = pickle.load(chunks)  # noqa: S301 - written by this process, in a folder of its own
                except EOFError:
                    return
                yield from chunk
