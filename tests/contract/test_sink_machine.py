"""Whatever owners of partitions do, in whatever order: every step leaves the totals that the oracle has.

Hypothesis draws the steps: partitions are assigned (a former owner is not told: it goes on as a zombie), read, revoked;
what was read is written, breaks off before the commit or behind it, and its owner dies of that or lives on; and the
database is set back to an earlier moment. The oracle is a list: which calls stand before the rows' offsets, in the
order in which they were committed, the first of a repeated call counted.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from processor.batch import PartitionBuffer
from processor.counting.rows import CallRows, CountedCall, fold
from processor.deadline import Deadline
from processor.errors import Unavailable
from processor.sinks.base import Batch, Breaker, Checkpoint, Fenced, Sink, Span, TakeOver
from processor.worker.assignment import Owned, Verdict
from tests.contract.stores import STEPS, MemoryStore, PostgresStore, Store
from tests.factories import NOON_MS, counted, uuid7
from tests.property.cases import LAW

PARTITIONS: Final = 2
PROCESSES: Final = 3

Records = list[CountedCall | None]  # of one partition, by offset; None: a record that can never be counted

partitions = st.integers(0, PARTITIONS - 1)
processes = st.integers(0, PROCESSES - 1)
owners = st.integers(0, PROCESSES - 1)
ids = st.sampled_from(["a", "b", "c", "d", uuid7(1), uuid7(2), uuid7(3)])
calls = st.builds(
    lambda call_id, tokens, failed: counted(call_id, usage={"m": tokens}, failed=failed),
    ids, st.integers(-1, 2), st.booleans(),
)  # fmt: skip
records = st.lists(st.one_of(calls, calls, calls, st.none()), max_size=4)
produced = st.tuples(*[records] * PARTITIONS)


def soon() -> Deadline:
    return Deadline.after(10)


@dataclass(slots=True, eq=False)
class Process:
    """A worker: what it owns as it believes, and up to where it has read."""

    sink: Sink
    owned: dict[int, Owned] = field(default_factory=dict)
    read_to: dict[int, int] = field(default_factory=dict)

    def start(self, partition: int) -> int:
        return self.owned[partition].checkpoint.next_offset

    def advance(self, partition: int, row: Checkpoint) -> None:
        self.owned[partition].advance(row)
        self.read_to[partition] = max(self.read_to[partition], row.next_offset)

    def forget(self, partition: int) -> None:
        del self.owned[partition], self.read_to[partition]


@dataclass(slots=True)
class Truth:
    """What must be stored. `rows`: by partition, epoch and next offset; `committed`: calls in their order."""

    rows: dict[int, tuple[int, int]] = field(default_factory=dict)
    committed: list[CountedCall] = field(default_factory=list)

    def copy(self) -> "Truth":
        return Truth(dict(self.rows), list(self.committed))

    def counted(self) -> list[CountedCall]:
        """Each call once: the first wins."""
        return list({(call.project_id, call.id): call for call in reversed(self.committed)}.values())


class SinkMachine(RuleBasedStateMachine):
    """`store`: an empty database."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.log: list[Records] = [[] for _ in range(PARTITIONS)]
        self.truth = Truth()
        self.kept: Truth | None = None
        self.was_set_back = False
        self.processes = [Process(store.open()) for _ in range(PROCESSES)]

    @initialize(more=produced, number=processes)
    def begin(self, more: tuple[Records, ...], number: int) -> None:
        self.produce(more)
        for partition in range(PARTITIONS):
            self.assign(number, partition)

    def produce(self, more: tuple[Records, ...]) -> None:
        for partition, few in enumerate(more):
            self.log[partition] += few

    @rule(number=processes, partition=partitions)
    def assign(self, number: int, partition: int) -> None:
        """Whoever owns it now is not told."""
        self.take(self.processes[number], partition, above=0)

    def take(self, process: Process, partition: int, above: int) -> None:
        epoch, offset = self.truth.rows.get(partition, (0, 0))
        row = process.sink.take([TakeOver(partition, 0, above)], soon())[partition]
        assert (row.epoch, row.next_offset) == (max(epoch, above) + 1, offset)
        self.truth.rows[partition] = row.epoch, row.next_offset
        process.owned[partition] = Owned(row, PartitionBuffer(row.next_offset))
        process.read_to[partition] = offset

    @rule(owner=owners, partition=partitions)
    def revoke(self, owner: int, partition: int) -> None:
        process = self.owner(owner)
        if partition in process.owned:
            process.forget(partition)

    def owner(self, number: int) -> Process:
        """One that owns something, if there is one."""
        of = [process for process in self.processes if process.owned] or self.processes
        return of[number % len(of)]

    @rule(owner=owners, amount=st.integers(1, 6))
    def read(self, owner: int, amount: int) -> None:
        """Of each partition; what is read stays in the process's hands until it writes it."""
        read_to = self.owner(owner).read_to
        for partition in read_to:
            read_to[partition] = min(read_to[partition] + amount, len(self.log[partition]))

    @rule(
        owner=owners,
        more=produced,
        amount=st.integers(0, 6),
        fate=st.sampled_from(["commits", "commits", "breaks off before", "breaks off behind"]),
        step=st.integers(0, len(STEPS) - 1),
        dies=st.booleans(),
    )
    def write(self, owner: int, more: tuple[Records, ...], amount: int, fate: str, step: int, dies: bool) -> None:
        """All that was read, and so many more. `step`: behind which it breaks off; `dies`: its owner, too, then."""
        self.produce(more)
        self.read(owner, amount)
        process = self.owner(owner)
        batch = self.batch_of(process)
        if not batch.spans:
            return
        fits = all(self.truth.rows.get(span.partition) == (span.epoch, span.start) for span in batch.spans)
        try:
            with self.broken_off(fate, step):
                stored = process.sink.write(batch, soon())
        except Fenced as fenced:
            assert not fits, "a batch that fits was refused"
            self.settle(process, fenced.stored)
        except Unavailable:
            if fate == "breaks off behind":
                self.committed(batch, fits)
            if dies:
                process.sink.close()
                self.processes[self.processes.index(process)] = Process(self.store.open())
        else:
            self.committed(batch, fits)
            for partition, row in stored.items():
                process.advance(partition, row)

    @rule(owner=owners)
    def compare(self, owner: int) -> None:
        process = self.owner(owner)
        if process.owned:
            self.settle(process, process.sink.read(list(process.owned), soon()))

    @precondition(lambda self: self.kept is None and self.truth.committed)
    @rule()
    def remember(self) -> None:
        self.store.remember()
        self.kept = self.truth.copy()

    @precondition(lambda self: self.kept is not None)
    @rule()
    def set_back(self) -> None:
        assert self.kept is not None
        self.store.set_back()
        self.truth = self.kept.copy()
        self.was_set_back = True

    @invariant()
    def what_is_stored_is_what_the_oracle_has(self) -> None:
        counted = self.truth.counted()
        assert self.store.totals() == fold(counted)
        rows = self.processes[0].sink.read(range(PARTITIONS), soon())
        stored = {partition: row for partition, row in rows.items() if row is not None}
        assert {partition: (row.epoch, row.next_offset) for partition, row in stored.items()} == self.truth.rows
        assert not any(row.unaccounted for row in stored.values())
        assert sum(row.counted for row in stored.values()) == len(counted)

    def teardown(self) -> None:
        for process in self.processes:
            process.sink.close()
        self.store.close()

    def batch_of(self, process: Process) -> Batch:
        spans, found = [], CallRows()
        for partition in sorted(process.owned):
            start, end = process.start(partition), process.read_to[partition]
            if end > start:
                chosen = self.log[partition][start:end]
                spans.append(_span(partition, process.owned[partition].checkpoint.epoch, start, chosen))
                process.owned[partition].attempted_ends.add(end)
                for offset, call in enumerate(chosen, start):
                    if call is not None:
                        found.append(call, partition, offset, NOON_MS)
        return Batch(tuple(spans), found)

    def broken_off(self, fate: str, step: int) -> AbstractContextManager[None]:
        if fate == "breaks off before":
            return self.store.breaks_before_commit(step)
        return self.store.breaks_after_commit() if fate == "breaks off behind" else nullcontext()

    def committed(self, batch: Batch, fits: bool) -> None:
        assert fits, "a batch was written although a row has another epoch or another offset"
        for span in batch.spans:
            self.truth.rows[span.partition] = span.epoch, span.end
            self.truth.committed += filter(None, self.log[span.partition][span.start : span.end])

    def settle(self, process: Process, stored: Mapping[int, Checkpoint | None]) -> None:
        """As the worker does."""
        for partition, row in stored.items():
            mine = process.owned[partition]
            verdict = mine.judge(row)
            if verdict is Verdict.COMMITTED and row is not None:
                process.advance(partition, row)
            elif verdict is not Verdict.UNCHANGED:
                process.forget(partition)
            if verdict is Verdict.SET_BACK:
                self.take(process, partition, above=max(mine.checkpoint.epoch, row.epoch if row else 0))
            # Epochs that a database forgot are given again: then two may own a partition, and one of them stops.
            assert verdict is not Verdict.NONSENSE or self.was_set_back


def _span(partition: int, epoch: int, start: int, chosen: Records) -> Span:
    rejected = chosen.count(None)
    return Span(
        partition=partition,
        epoch=epoch,
        start=start,
        end=start + len(chosen),
        records_read=len(chosen),
        dead_letters={"invalid": rejected} if rejected else {},
        skipped=0,
        gap_offsets=0,
        record_time_ms=NOON_MS,
        breaker=Breaker(),
    )


def test_a_sink_in_memory_keeps_its_contract_whatever_happens() -> None:
    check(MemoryStore, examples=200)


def test_a_sink_in_postgresql_keeps_its_contract_whatever_happens(database: str) -> None:
    check(lambda: PostgresStore(database), examples=30)


def check(new_store: Callable[[], Store], examples: int) -> None:
    """A hundred times as many with HYPOTHESIS_PROFILE=long."""

    class Machine(SinkMachine):
        def __init__(self) -> None:
            super().__init__(new_store())

    examples = examples * LAW.max_examples // 1000
    run_state_machine_as_test(Machine, settings=settings(LAW, max_examples=examples, stateful_step_count=40))
