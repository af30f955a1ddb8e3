"""Our processes on real servers, kept alive as a supervisor keeps them: what dies is started again."""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from processor.deadline import Deadline
from processor.embedded.ports import LOOPBACK, free_port
from tests.group import assigned, member
from tests.stack import LOOK_EVERY_S, Installation, Process

FROZEN_WORKER: Final = Path(__file__).parents[1] / "frozen_worker.py"
AGAIN_AFTER_S: Final = 1.0
STOPPED_WITHIN_S: Final = 45.0


class ScriptedWorker(Process):
    """tests/frozen_worker.py: inside COPY, with the row locked, it stops for as long as `file` is there."""

    def __init__(self, file: Path, *, folder: Path, name: str, environment: Mapping[str, str]) -> None:
        super().__init__([], folder=folder, name=name, environment=environment)
        self._command = [sys.executable, "-P", str(FROZEN_WORKER), "inside", str(file)]


@dataclass(frozen=True, slots=True)
class Exit:
    """A process that ended although nobody had asked it to."""

    at_s: float
    name: str
    code: int
    age_s: float
    last_words: str


@dataclass(slots=True)
class Member:
    """One process that must run. `down`: it does not, on purpose."""

    name: str
    launch: Callable[[], Process]
    process: Process
    down: bool = False
    frozen: bool = False
    started_s: float = field(default_factory=time.monotonic)
    _again_at_s: float | None = None

    @property
    def runs(self) -> bool:
        return not self.down and not self.frozen and self.process.pid is not None

    def partitions(self) -> set[int]:
        return assigned(self.process)

    def kill(self) -> None:
        self.down = True
        self.process.kill()

    def start(self) -> None:
        """A process with a log of its own."""
        self.down = False
        self.started_s = time.monotonic()
        self.process = self.launch()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)
        self.frozen = False

    def _signal(self, number: signal.Signals) -> None:
        if self.process.pid is not None:
            os.kill(self.process.pid, number)

    def look(self, now_s: float) -> Exit | None:
        """Start again what has died; its exit, once."""
        code = self.process.poll()
        if self.down or code is None:
            return None
        if self._again_at_s is None:
            self._again_at_s = now_s + AGAIN_AFTER_S
            self.frozen = False
            return self.exit(now_s, code)
        if now_s >= self._again_at_s:
            self._again_at_s = None
            self.start()
        return None

    def exit(self, now_s: float, code: int) -> Exit:
        return Exit(now_s, self.name, code, now_s - self.started_s, (self.process.tail().splitlines() or [""])[-1])


@dataclass(slots=True)
class Fleet:
    """`dsn`: through which the workers reach their database."""

    installation: Installation
    dsn: str
    protocol: str
    workers: list[Member] = field(default_factory=list)
    doors: list[Member] = field(default_factory=list)
    addresses: list[tuple[str, int]] = field(default_factory=list)  # of the doors
    exits: list[Exit] = field(default_factory=list)
    _numbers: int = 0

    def add_door(self) -> Member:
        port = free_port()
        self.addresses.append((LOOPBACK, port))
        return self._add(
            self.doors, f"ingest {len(self.doors)}", lambda: self.installation.start_ingest(f"{LOOPBACK}:{port}")[0]
        )

    def add_worker(self) -> Member:
        name = self._next_name()
        settings = self._settings(name)
        return self._add(self.workers, name, lambda: self.installation.start_worker(**settings))

    def add_scripted_worker(self, file: Path) -> Member:
        """Not to be started again: remove it."""
        name = self._next_name()
        environment = self.installation.environment(ADMIN__LISTEN=f"{LOOPBACK}:{free_port()}", **self._settings(name))

        def launch() -> Process:
            process = ScriptedWorker(
                file, folder=self.installation.folder, name=f"{name}-scripted", environment=environment
            )
            process.launch()
            self.installation.processes.append(process)
            return process

        return self._add(self.workers, name, launch)

    def remove(self, worker: Member) -> None:
        """Ask it to stop; it leaves its group by itself."""
        worker.down = True
        worker.process.ask_to_stop()
        self.workers.remove(worker)

    def look(self, now_s: float) -> None:
        for one in (*self.workers, *self.doors):
            if (ended := one.look(now_s)) is not None:
                self.exits.append(ended)

    def stop(self, members: list[Member]) -> None:
        """In order; an exit code that is not 0 is kept as an exit."""
        for one in members:
            one.down = True
            one.process.ask_to_stop()
        deadline = Deadline.after(STOPPED_WITHIN_S)
        for one in members:
            while one.process.pid is not None and not deadline.passed():
                time.sleep(LOOK_EVERY_S)  # a second signal would meet a process that is just ending
            one.process.stop()
            if code := one.process.poll():
                self.exits.append(one.exit(time.monotonic(), code))
        members.clear()

    def running(self) -> dict[str, int]:
        """Process ids by name."""
        return {one.name: pid for one in (*self.workers, *self.doors) if (pid := one.process.pid) is not None}

    def _add(self, members: list[Member], name: str, launch: Callable[[], Process]) -> Member:
        one = Member(name, launch, launch())
        members.append(one)
        return one

    def _next_name(self) -> str:
        self._numbers += 1
        return f"worker {self._numbers - 1}"

    def _settings(self, name: str) -> dict[str, str]:
        settings = member(self.installation.folder, self.protocol, name.replace(" ", "-"))
        return {"POSTGRES__DSN": self.dsn, **settings}
