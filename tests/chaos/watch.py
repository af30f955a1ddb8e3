"""What is looked at while a run lasts: how the checkpoints move, and how much memory every process takes."""

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psutil
import psycopg

from tests.chaos.dispatch import Happened
from tests.chaos.fleet import Member
from tests.chaos.scene import Impossible, Scene

CHECKPOINTS_EVERY_S: Final = 0.1
MEMORY_EVERY_S: Final = 1.0

Place = tuple[int, int]  # epoch, next_offset


@dataclass(slots=True)
class Takeover:
    """A worker stopped serving its partitions; `ended_s`: when each had a new owner and had moved on."""

    why: str
    worker: str
    began_s: float
    before: dict[int, Place]
    ended_s: float = float("inf")

    @property
    def seconds(self) -> float:
        return self.ended_s - self.began_s

    def look(self, now: dict[int, Place], at_s: float) -> bool:
        """Whether it is over since this look."""
        if self.ended_s != float("inf"):
            return False
        if all(now[p][0] > epoch and now[p][1] > offset for p, (epoch, offset) in self.before.items()):
            self.ended_s = at_s
        return self.ended_s == at_s


def undisturbed(takeover: Takeover, faults: Sequence[Happened]) -> bool:
    """No other fault lasted meanwhile: what was measured is the takeover and nothing else."""
    others = [fault for fault in faults if fault.target != takeover.worker]
    return not any(fault.began_s <= takeover.ended_s and fault.ended_s >= takeover.began_s for fault in others)


@dataclass(slots=True)
class Watch:
    """`clock`: seconds since the run began."""

    scene: Scene
    clock: Callable[[], float]
    say: Callable[[str], None]
    takeovers: list[Takeover] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # most bytes, by role
    _places: dict[int, Place] = field(default_factory=dict)
    _session: psycopg.Connection[Any] | None = None
    _checkpoints_at_s: float = 0.0
    _memory_at_s: float = 0.0

    def lost(self, worker: Member, why: str) -> None:
        partitions = worker.partitions() & self._places.keys()
        if partitions:
            before = {partition: self._places[partition] for partition in partitions}
            self.takeovers.append(Takeover(why, worker.name, self.clock(), before))

    def next_offset(self, partition: int) -> int:
        return self._places.get(partition, (0, 0))[1]

    def turn(self) -> None:
        now_s = self.clock()
        if now_s >= self._checkpoints_at_s:
            self._checkpoints_at_s = now_s + CHECKPOINTS_EVERY_S
            self._look_at_checkpoints()
        if now_s >= self._memory_at_s:
            self._memory_at_s = now_s + MEMORY_EVERY_S
            self._look_at_memory()

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def _look_at_checkpoints(self) -> None:
        try:
            if self._session is None or self._session.closed:
                self._session = self.scene.session()
            rows = self._session.execute("SELECT partition, epoch, next_offset FROM checkpoints").fetchall()
        except (Impossible, psycopg.OperationalError):
            if self._session is not None:
                self._session.close()
            return
        self._places = {partition: (epoch, offset) for partition, epoch, offset in rows}
        for takeover in self.takeovers:
            if takeover.look(self._places, self.clock()):
                self.say(f"what {takeover.worker} had is taken over after {takeover.seconds:.1f} s")

    def _look_at_memory(self) -> None:
        processes = {**self.scene.fleet.running(), "clients and referee": os.getpid()}
        for name, pid in processes.items():
            self._note(name.rstrip(" 0123456789"), pid)
        if self.scene.kafka.pid is not None:
            self._note("Kafka", self.scene.kafka.pid)
        if self.scene.postgres.pid is not None:
            for backend in _children(self.scene.postgres.pid):
                self._note("PostgreSQL, one process", backend)

    def _note(self, role: str, pid: int) -> None:
        try:
            self.memory[role] = max(self.memory[role], psutil.Process(pid).memory_info().rss)
        except psutil.Error:  # it has just ended
            return


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []
