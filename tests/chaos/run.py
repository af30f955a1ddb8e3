"""One run: servers, two doors, three workers, clients, faults; then silence, and the judgement.

The database has `fsync` on, as in production: an immediate shutdown ends processes, not the machine, so even without
it nothing would be lost, but a proof should not need that thought.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from processor.embedded.kafka import EmbeddedKafka
from processor.embedded.ports import LOOPBACK
from processor.embedded.postgres import EmbeddedPostgres
from processor.errors import ExitCode
from processor.sample.oracle import TABLES
from tests.chaos import judge
from tests.chaos.clients import Clients, Fate
from tests.chaos.dispatch import Dispatcher
from tests.chaos.faults import FAULTS
from tests.chaos.fleet import Exit, Fleet
from tests.chaos.foreign import ForeignProducer
from tests.chaos.judge import Law, Problem
from tests.chaos.oracle import across_partitions, expect
from tests.chaos.posts import Post, posts
from tests.chaos.report import Report, Times
from tests.chaos.scene import Scene
from tests.chaos.schedule import Planned, duration_s
from tests.chaos.watch import Watch, undisturbed
from tests.proxy import Proxy
from tests.stack import PARTITIONS, Installation, Servers, processes_marked, wait_until_ready

ROOT: Final = Path(__file__).parents[2]  # the program beside these tests is run: a copy may have been changed
DOORS: Final = 2
WORKERS: Final = 3
TURN_S: Final = 0.02
STRETCH: Final = 1.25  # faults wait for each other, and calls must be posted as long as they last
LATE_S: Final = 600.0  # the clients, or a fault, may take so much longer than planned
TAKEOVER_WITHIN_S: Final = 20.0  # where nothing else is broken: session 6 s, lock 2 s, and a busy machine
START_S: Final = 20.0  # a process that finds a server away may give up so long after its start
REFUSED_S: Final = 15.0  # a worker may stop so long after the dead-letter topic refused the last letter
MEMORY_BYTES: Final = {"ingest": 160 * 2**20, "worker": 400 * 2**20}


@dataclass(frozen=True, slots=True)
class Plan:
    command: str  # for the report
    seed: int
    events: int
    faults: Sequence[Planned]
    group_protocol: str = "classic"
    counted_within_s: float = 120.0  # after the last post


def run(plan: Plan, folder: Path, say: Callable[[str], None] = lambda _: None) -> Report:
    """Servers of its own, whose state is in `folder`; all is over when it returns."""
    began_s = time.monotonic()
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(1))
        postgres = stack.enter_context(EmbeddedPostgres(folder / "postgres", settings={"max_connections": "100"}))
        kafka = stack.enter_context(EmbeddedKafka(folder / "kafka"))
        proxy = stack.enter_context(Proxy(f"{LOOPBACK}:{postgres.port}"))
        servers = Servers(kafka.bootstrap_servers, postgres.dsn)
        installation = Installation(servers, folder, variables={"PYTHONPATH": str(ROOT)})
        installation.create()
        stack.callback(installation.close)
        fleet = Fleet(installation, installation.dsn.replace(proxy.target, proxy.address), plan.group_protocol)
        scene = Scene(kafka, postgres, proxy, installation, fleet, pool, partitions=PARTITIONS)
        return Run(plan, scene, say).to_its_end(began_s)


@dataclass(slots=True)
class Run:
    plan: Plan
    scene: Scene
    say: Callable[[str], None]
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    problems: list[Problem] = field(default_factory=list)
    watch: Watch = field(init=False)
    dispatcher: Dispatcher = field(init=False)
    foreign: ForeignProducer = field(init=False)
    _zero_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.watch = Watch(self.scene, self.clock, self._tell)
        self.scene.lost = self.watch.lost
        self.dispatcher = Dispatcher(lambda planned: FAULTS[planned.name](self.scene, planned.draw), self._tell)
        self.foreign = ForeignProducer(self.scene.installation)

    def to_its_end(self, began_s: float) -> Report:
        self._start()
        planned_s = max(STRETCH * duration_s(self.plan.faults), 1.0)
        fleet, events = self.scene.fleet, self.plan.events
        clients = Clients(fleet.addresses, self._posts(), events, rate_s=events / planned_s)
        self.dispatcher.plan(self.plan.faults)
        clients.start()
        try:
            self._until(lambda: clients.done and self.dispatcher.over, planned_s + LATE_S)
            posting_s = self.clock()
        finally:
            clients.stop()
        self._tell("all is posted, all is mended")
        self._come_to_rest()
        return self._judge(clients, posting_s, began_s)

    def clock(self) -> float:
        """Seconds since the clients began."""
        return time.monotonic() - self._zero_s

    def _tell(self, what: str) -> None:
        self.say(f"{self.clock():8.1f} s  {what}")

    def _posts(self) -> Iterator[Post]:
        return posts(self.plan.seed, self.now, self.plan.events)

    def _start(self) -> None:
        fleet = self.scene.fleet
        members = [*(fleet.add_door() for _ in range(DOORS)), *(fleet.add_worker() for _ in range(WORKERS))]
        wait_until_ready(*(one.process for one in members))
        self._zero_s = time.monotonic()

    def _until(self, over: Callable[[], bool], within_s: float) -> bool:
        """Faults, processes and watch go on."""
        end_s = self.clock() + within_s
        while not over():
            if self.clock() > end_s:
                return False
            self.dispatcher.turn(self.clock())
            self.scene.fleet.look(time.monotonic())
            self.watch.turn()
            self.foreign.turn(self.clock())
            time.sleep(TURN_S)
        return True

    def _come_to_rest(self) -> None:
        """Nobody posts any more, then everything is counted, then nothing runs."""
        fleet = self.scene.fleet
        fleet.stop(fleet.doors)
        self.foreign.close()
        ends = self.scene.installation.end_offsets(self.scene.installation.topic)

        def counted() -> bool:
            return all(self.watch.next_offset(partition) >= end for partition, end in ends.items())

        if not self._until(counted, self.plan.counted_within_s):
            behind = {p: f"{self.watch.next_offset(p)} of {end}" for p, end in ends.items()}
            self.problems.append(
                Problem(Law.PROGRESS, f"{self.plan.counted_within_s:.0f} s after the last post: {behind}")
            )
        fleet.stop(fleet.workers)
        self.watch.close()
        if left := processes_marked(self.scene.installation.name):
            self.problems.append(Problem(Law.LEFTOVERS, f"{left}"))

    # the judgement

    def _judge(self, clients: Clients, posting_s: float, began_s: float) -> Report:
        installation, outcomes = self.scene.installation, clients.outcomes
        log, ends = judge.read_log(installation), installation.end_offsets(installation.topic)
        expectation = expect(self._posts(), outcomes, log)
        expectation.settle(log, judge.winners(installation, across_partitions(expectation, log)))
        rows = judge.checkpoints(installation)
        drift = list(judge.totals(installation, expectation))
        self.problems += [Problem(Law.ACKNOWLEDGED, what) for what in expectation.problems]
        self.problems += drift
        self.problems += judge.conservation(rows, ends, log, expectation)
        self.problems += judge.letters(installation, log)
        self.problems += self._of_exits()
        self.problems += self._of_takeovers()
        self.problems += self._of_memory()
        faults = self.dispatcher.happened
        return Report(
            command=self.plan.command,
            seed=self.plan.seed,
            group_protocol=self.plan.group_protocol,
            cores=os.cpu_count() or 0,
            seconds=time.monotonic() - began_s,
            posting_s=posting_s,
            posts=len(outcomes.fates),
            acknowledged=outcomes.count(Fate.ACKNOWLEDGED),
            refused=outcomes.count(Fate.REFUSED),
            unknown_on_log=expectation.unknown_on_log,
            unknown_not_on_log=expectation.unknown_not_on_log,
            attempts=outcomes.attempts,
            unanswered_attempts=outcomes.unanswered,
            answers=dict(sorted(outcomes.statuses.items())),
            faults=dict(Counter(fault.name for fault in faults)),
            impossible_faults=dict(self.dispatcher.impossible),
            overlapping_faults=sum(any(a.began_s < b.began_s < a.ended_s for a in faults) for b in faults),
            commits_without_answer=self.scene.proxy.answers_lost,
            partitions=len(ends),
            records=sum(log.records().values()),
            calls_counted=sum(row.counted for row in rows),
            repeats_absorbed=sum(row.duplicates for row in rows),
            conflicts=sum(row.conflicts for row in rows),
            settled_by_key=expectation.settled_by_key,
            dead_letters=sum(row.dead_lettered for row in rows),
            tombstones=sum(row.skipped for row in rows),
            rows_compared=sum(len(expectation.tables[name]) for name in TABLES),
            drift_rows=len(drift),
            unaccounted_offsets=sum(abs(ends[row.partition] - row.accounted) for row in rows),
            takeovers_undisturbed=Times.of([one for one in self.watch.takeovers if undisturbed(one, faults)]),
            takeovers=Times.of(self.watch.takeovers),
            memory_bytes=dict(self.watch.memory),
            exits=dict(Counter(ended.code for ended in self.scene.fleet.exits)),
            problems=judge.some(self.problems),
        )

    def _of_exits(self) -> Iterator[Problem]:
        for ended in self.scene.fleet.exits:
            if not self._is_foreseen(ended):
                what = f"{ended.name} ended with {ended.code}, {ended.age_s:.0f} s after its start: {ended.last_words}"
                yield Problem(Law.EXITS, what)

    def _is_foreseen(self, ended: Exit) -> bool:
        """A start that finds a server away, or that is asked to stop before it listens to signals; and a worker stops
        rather than skip what the dead-letter topic refuses."""
        if ended.code in (ExitCode.DEPENDENCY, -signal.SIGTERM):
            return ended.age_s < START_S
        at_s = ended.at_s - self._zero_s
        refused = [one for one in self.dispatcher.happened if one.name == "dead letters refused"]
        return ended.code == ExitCode.PROTECT_NUMBERS and any(
            one.began_s <= at_s <= one.ended_s + REFUSED_S for one in refused
        )

    def _of_takeovers(self) -> Iterator[Problem]:
        for one in self.watch.takeovers:
            if one.seconds > TAKEOVER_WITHIN_S and undisturbed(one, self.dispatcher.happened):
                yield Problem(Law.TAKEOVER, f"{one.worker} was {one.why}: {one.seconds:.1f} s until others went on")

    def _of_memory(self) -> Iterator[Problem]:
        for role, most in MEMORY_BYTES.items():
            if (size := self.watch.memory[role]) > most:
                yield Problem(Law.MEMORY, f"{role} took {size // 2**20} MiB, bound {most // 2**20}")
