"""One run, judged: what was answered and what is stored against what must be."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from processor.sample.oracle import Expected, Rows, Tables, added, expect
from processor.sample.sender import Answer
from processor.sample.stored import Counters, differences


@dataclass(frozen=True)
class Comparison:
    """`before` and `stored`: the tables when the run began and after all of it was counted; nobody else wrote then.

    `counters`: what the checkpoints gained. `foreign`: what the records of others must have added to them.
    """

    answers: Sequence[Answer]
    before: Tables
    stored: Tables
    counters: Counters
    foreign: Counters

    @cached_property
    def expected(self) -> Expected:
        return expect(answer.post.parsed() for answer in self.answers if answer.status == 200)

    @cached_property
    def problems(self) -> list[str]:
        """Everything that is not as it must be."""
        return [*self._answers(), *self._rows(), *self._counters()]

    def gained_usage(self) -> Rows:
        """usage_totals, less what was there before."""
        before = self.before["usage_totals"]
        return {
            key: tuple(new - old for new, old in zip(row, before.get(key, (0,) * len(row)), strict=True))
            for key, row in self.stored["usage_totals"].items()
        }

    def _answers(self) -> Iterator[str]:
        for answer in self.answers:
            if answer.status != answer.post.expect:
                yield f"a request got {answer.status or 'no answer'} in place of {answer.post.expect}"

    def _rows(self) -> Iterator[str]:
        must = added({name: dict(rows) for name, rows in self.before.items()}, self.expected.tables)
        return differences(self.stored, must)

    def _counters(self) -> Iterator[str]:
        # A request that was tried again may have been stored before: then there are more repeats than were sent.
        tried_once = all(answer.attempts == 1 for answer in self.answers)
        for name, got, least, exact in (
            ("calls", self.counters.counted, self.expected.calls, True),
            ("duplicates", self.counters.duplicates, self.expected.duplicates, tried_once),
            ("conflicts", self.counters.conflicts, self.expected.conflicts, tried_once),
            ("dead letters", self.counters.dead_lettered, self.foreign.dead_lettered, True),
            ("skipped records", self.counters.skipped, self.foreign.skipped, True),
        ):
            if got < least or (exact and got != least):
                yield f"{name}: stored {got:,}, expected {least:,}"
