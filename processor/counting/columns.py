"""Counting whole columns at once; says exactly what rows.py says. Integers are exact: sums are int64, never floats."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from processor.counting.content import FIELD_WEIGHTS, HOUR_WEIGHT, MIX_1, MIX_2, STATUS_WEIGHT, text_hash
from processor.counting.totals import US_PER_HOUR, CallKind, Key, Outcome, Totals

Ints = np.ndarray[Any, np.dtype[np.int64]]
Words = np.ndarray[Any, np.dtype[np.uint64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

_KINDS: Final = (CallKind.LEAF, CallKind.ROLLUP, CallKind.UNSTATED)
_OUTCOMES: Final = (Outcome.SUCCESS, Outcome.DESCENDANT_ERROR, Outcome.ERROR)
_NARROW: Final = 1 << 16
_DENSE: Final = 4_000_000  # cells of a table of counts that is cheaper than sorting


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of one map of each call: those of call i stand from starts[i] up to starts[i + 1]."""

    starts: Ints  # calls + 1
    name: Ints  # index into `names`
    names: Sequence[str]
    numbers: Ints  # (numbers an entry, entries)

    @property
    def lengths(self) -> Ints:
        return np.diff(self.starts)

    @property
    def call(self) -> Ints:
        """The call of each entry."""
        return np.repeat(np.arange(len(self.starts) - 1), self.lengths)

    def sums(self, values: Ints | Words) -> Any:
        """By call; modulo 2^64."""
        running = np.concatenate([np.zeros(1, values.dtype), np.cumsum(values)])
        return running[self.starts[1:]] - running[self.starts[:-1]]

    def any_of(self, flags: Bools) -> Bools:
        found: Bools = self.sums(flags.astype(np.int64)) > 0
        return found

    def repeated(self) -> Bools:
        """Entries whose name stands in their call more than once."""
        pair = self.call * len(self.names) + self.name
        if not len(pair):
            return np.zeros(0, np.bool_)
        if (len(self.starts) - 1) * len(self.names) <= _DENSE:
            times, where = np.bincount(pair), pair
        else:
            _, where, times = np.unique(pair, return_inverse=True, return_counts=True)
        repeated: Bools = times[where] > 1
        return repeated


@dataclass(frozen=True, slots=True)
class CallColumns:
    """Calls, one entry each in every column."""

    project: Ints  # index into `projects`
    projects: Sequence[str]
    ids: Sequence[str]
    id_times_ms: Ints  # UNTIMED where the id has none
    ended_at_us: Ints
    failed: Bools
    usage: Entries  # numbers: the eight counts, absent = 0
    statuses: Entries  # numbers: one count


class ColumnCalls:
    """The calls of a batch (see `Calls`): those of `columns` at the positions `kept`, ascending."""

    def __init__(
        self, columns: CallColumns, kept: Ints, *, partitions: Ints, offsets: Ints, record_times_ms: Ints
    ) -> None:
        self._columns = columns
        self._kept = kept
        self.partitions: Sequence[int] = partitions.tolist()
        self.offsets = offsets
        self.record_times_ms = record_times_ms
        stated = columns.statuses.sums(columns.statuses.numbers[0])
        self._kind = np.where(stated == 1, 0, np.where(stated > 1, 1, 2))
        self._outcome = np.where(columns.failed, 2, np.where(self._errors() > 0, 1, 0))
        self._hour = columns.ended_at_us // US_PER_HOUR
        self._places, self._place = _places(columns, self._hour)

    @property
    def identities(self) -> Sequence[tuple[str, str]]:
        projects, ids, project = self._columns.projects, self._columns.ids, self._columns.project.tolist()
        return [(projects[project[call]], ids[call]) for call in self._kept.tolist()]

    @property
    def id_times_ms(self) -> Ints:
        return self._columns.id_times_ms[self._kept]

    @property
    def ended_at_us(self) -> Ints:
        return self._columns.ended_at_us[self._kept]

    @property
    def content_hashes(self) -> Ints:
        columns = self._columns
        words = self._hour.astype(np.uint64) * np.uint64(HOUR_WEIGHT) + _hashes(_OUTCOMES)[self._outcome]
        words += columns.usage.sums(_entry_words(columns.usage, FIELD_WEIGHTS))
        words += columns.statuses.sums(_entry_words(columns.statuses, (STATUS_WEIGHT,)))
        hashes: Ints = _mix(words)[self._kept].view(np.int64)
        return hashes

    def fold(self, left_out: Collection[int]) -> Totals:
        columns = self._columns
        counted = np.zeros(len(columns.ids), np.bool_)
        counted[self._kept] = True
        counted[self._kept[list(left_out)]] = False
        return Totals(
            usage=self._entry_totals(columns.usage, counted, with_calls=True),
            statuses={key: count for key, (count,) in self._entry_totals(columns.statuses, counted).items()},
            outcomes=self._outcome_totals(counted),
        )

    def _entry_totals(
        self, entries: Entries, counted: Bools, *, with_calls: bool = False
    ) -> dict[Key, tuple[int, ...]]:
        call = entries.call
        (chosen,) = np.nonzero(counted[call])
        order, keys, firsts = self._grouped(call[chosen], entries.name[chosen], entries.names)
        if not len(keys):
            return {}
        sums = np.zeros((len(entries.numbers), len(keys)), np.int64)
        occurs = entries.numbers.any(axis=1)  # few of the eight counts do
        sums[occurs] = np.add.reduceat(entries.numbers[occurs][:, chosen[order]], firsts, axis=1)
        if with_calls:
            sums = np.vstack([np.diff(np.append(firsts, len(order))), sums])
        return dict(zip(keys, map(tuple, sums.T.tolist()), strict=True))

    def _outcome_totals(self, counted: Bools) -> dict[Key, int]:
        (chosen,) = np.nonzero(counted)
        order, keys, firsts = self._grouped(chosen, self._outcome[chosen], _OUTCOMES)
        return dict(zip(keys, np.diff(np.append(firsts, len(order))).tolist(), strict=True))

    def _grouped(self, call: Ints, name: Ints, names: Sequence[str]) -> tuple[Ints, list[Key], Ints]:
        """Sort by (project, hour, name, kind): the order, the keys, and where each key's entries begin in it."""
        if not len(call):
            return call, [], call
        word = (self._place[call] * len(names) + name) * len(_KINDS) + self._kind[call]
        order = np.argsort(_narrow(word), kind="stable")
        word = word[order]
        (firsts,) = np.nonzero(np.append(True, word[1:] != word[:-1]))
        rest, kind = np.divmod(word[firsts], len(_KINDS))
        place, named = np.divmod(rest, len(names))
        keys = [
            (*self._places[p], str(names[n]), _KINDS[k])
            for p, n, k in zip(place.tolist(), named.tolist(), kind.tolist(), strict=True)
        ]
        return order, keys, firsts

    def _errors(self) -> Ints:
        statuses = self._columns.statuses
        is_error = np.array([name == "error" for name in statuses.names], np.bool_)
        if not is_error.any():
            return np.zeros(len(self._columns.ids), np.int64)
        errors: Ints = statuses.sums(np.where(is_error[statuses.name], statuses.numbers[0], 0))
        return errors


def _places(columns: CallColumns, hour: Ints) -> tuple[list[tuple[str, int]], Ints]:
    """(project, hour) as they occur, sorted, and which of them each call has: few, however far apart the hours lie."""
    first_hour = int(hour.min(initial=0))
    hours = int(hour.max(initial=0)) - first_hour + 1
    pairs, place = np.unique(columns.project * hours + (hour - first_hour), return_inverse=True)
    project, since = np.divmod(pairs, hours)
    places = [(columns.projects[p], first_hour + h) for p, h in zip(project.tolist(), since.tolist(), strict=True)]
    return places, place


def _narrow(words: Ints) -> Ints | np.ndarray[Any, np.dtype[np.uint16]]:
    """As 16 bits if they fit, none being negative: those are sorted without comparing them, five times as fast."""
    return words.astype(np.uint16) if words.max() < _NARROW else words


def _hashes(texts: Sequence[str]) -> Words:
    return np.fromiter(map(text_hash, texts), np.uint64, len(texts))


def _entry_words(entries: Entries, weights: Sequence[int]) -> Words:
    words = _hashes(entries.names)[entries.name] if len(entries.names) else np.zeros(0, np.uint64)
    for weight, numbers in zip(weights, entries.numbers, strict=True):
        words = words + np.uint64(weight) * numbers.astype(np.uint64)
    return _mix(words)


def _mix(word: Words) -> Words:
    """content.mix over a column; unsigned 64-bit words wrap by themselves."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(MIX_1)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(MIX_2)
    mixed: Words = word ^ (word >> np.uint64(31))
    return mixed
