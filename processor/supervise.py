"""Start, restart and stop our own children, in one synchronous loop (`up`, `demo`, `--processes N`).

A dead child is started again after 0.5 s, doubling to 10 s; after a minute of life the delay is 0.5 s again. Five
deaths of one child within 60 s stop everything (exit code 3). Two exit codes speak for themselves: 4 (stopped to
protect the numbers) is tried again every 10 s and not counted, so that `call-processor resume` works while the rest
stays up; 2 (settings, usage) stops everything with 2, because starting again cannot help. A child that is stuck is
killed, and that is a death like any other.
"""

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, Self

import structlog

from processor.child import STOP_SIGNALS, Child, spawn
from processor.config import PREFIX, Settings, split_listen
from processor.errors import ExitCode, Stop
from processor.liveness import Liveness

FIRST_DELAY_S: Final = 0.5
LONGEST_DELAY_S: Final = 10.0
DEATHS: Final = 5
WINDOW_S: Final = 60.0
LOOK_EVERY_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Again:
    """Start it again at `at_s` of the same clock."""

    at_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop everything."""

    exit_code: ExitCode
    reason: str


class RestartPolicy:
    """Pure: what to do about the deaths of one child. Times are seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=DEATHS)
        self._in_a_row = 0

    def died(self, exit_code: int, *, started_s: float, now_s: float) -> Again | GiveUp:
        if exit_code == ExitCode.PROTECT_NUMBERS:
            return Again(now_s + LONGEST_DELAY_S)
        if exit_code == ExitCode.USAGE:
            return GiveUp(ExitCode.USAGE, "its settings or arguments are wrong")
        self._recent.append(now_s)
        if len(self._recent) == DEATHS and now_s - self._recent[0] <= WINDOW_S:
            return GiveUp(ExitCode.DEPENDENCY, f"it died {DEATHS} times within {WINDOW_S:.0f} s")
        self._in_a_row = 1 if now_s - started_s >= WINDOW_S else self._in_a_row + 1
        return Again(now_s + min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(self._in_a_row - 1, 10)))


class Program(Child):
    """One `call-processor <arguments>` with settings of its own on top of our environment."""

    def __init__(
        self, name: str, arguments: Sequence[str], settings: Mapping[str, str], pass_fds: Sequence[int] = ()
    ) -> None:
        self.name = name
        self._arguments = tuple(arguments)
        self._pass_fds = tuple(pass_fds)
        self.admin = settings.get("ADMIN__LISTEN")
        self.settings = {PREFIX + key: value for key, value in settings.items()}

    def launch(self) -> None:
        environment = {**os.environ, **self.settings}
        self._process = spawn([*call_processor(), *self._arguments], env=environment, pass_fds=self._pass_fds)

    def finish(self) -> None:
        """Wait for its end; `Stop` with its exit code if that is not 0 (it has said why on stderr)."""
        assert self._process is not None  # noqa: S101
        code = self._process.wait()
        if code:
            known = ExitCode(code) if code in set(ExitCode) else ExitCode.DEPENDENCY
            raise Stop(known, f"`call-processor {' '.join(self._arguments)}` ended with exit code {code}")


def call_processor() -> list[str]:
    """The command of this very installation."""
    script = Path(sys.executable).with_name("call-processor")
    return [str(script)] if script.exists() else [sys.executable, "-m", "processor"]


def copies(
    role: str, count: int, admin_listen: str, *, arguments: Sequence[str] = (), pass_fds: Sequence[int] = ()
) -> list[Child]:
    """`count` processes of a role; the admin port of each is the base port + its index."""
    host, port = split_listen(admin_listen)
    host = f"[{host}]" if ":" in host else host
    return [
        Program(f"{role} {i}", [role, *arguments], {"ADMIN__LISTEN": f"{host}:{port + i}"}, pass_fds)
        for i in range(count)
    ]


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP asked us to stop."""


class Interrupts:
    """While entered, the first such signal raises `Interrupted` in the main thread; a second one sets `impatient`.

    A library may be in the middle of something then: if it makes another error of it, leaving turns that back; if it
    swallows it, the next `check` raises it again.
    """

    def __init__(self) -> None:
        self._count = 0

    @property
    def impatient(self) -> bool:
        return self._count > 1

    def check(self) -> None:
        if self._count:
            raise Interrupted

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, self._arrived)
            for number in STOP_SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN  # nohup stays nohup
        }
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._count and isinstance(error, Exception) and not isinstance(error, Stop):
            raise Interrupted from error

    def _arrived(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            raise Interrupted


class Supervisor:
    """Keeps `stages` of children alive. They are stopped stage by stage, in the order given; one stage at once."""

    def __init__(
        self,
        stages: Sequence[Sequence[Child]],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stages = stages
        self._say = say
        self._clock = clock
        self._policies = {child: RestartPolicy() for stage in stages for child in stage}
        self._started_s: dict[Child, float] = {}
        self._due_s: dict[Child, float] = {}
        self._liveness = Liveness({child: child.admin for child in self._policies if child.admin})

    def start(self) -> None:
        """Those that do not run already."""
        for child in self._policies:
            if child.pid is None:
                child.launch()
            self._started_s[child] = self._clock()
        self._liveness.start()

    def look(self) -> None:
        """Note deaths, start what is due. `Stop` when everything has to end. Call it often; it never waits."""
        now_s = self._clock()
        for child, stuck in self._liveness.take_stuck().items():
            if child.pid == stuck.pid:
                self._say(f"{child.name} is stuck ({stuck.why}): it is killed")
                child.kill()
        for child, policy in self._policies.items():
            if child in self._due_s:
                if now_s >= self._due_s[child]:
                    self._start_again(child, now_s)
            elif (code := child.poll()) is not None:
                self._died(child, code, policy.died(code, started_s=self._started_s[child], now_s=now_s), now_s)

    def run(self, interrupts: Interrupts) -> None:
        """Until a signal (`Interrupted`) or `Stop`."""
        while True:
            interrupts.check()
            self.look()
            time.sleep(LOOK_EVERY_S)

    def stop(self, impatient: Callable[[], bool] = lambda: False) -> None:
        self._liveness.stop()
        for stage in self._stages:
            try:
                stop_together(stage, self._say, self._clock, impatient)
            except Interrupted:  # the first signal came while we were stopping for another reason: go on with that
                stop_together(stage, self._say, self._clock, impatient)

    def _died(self, child: Child, code: int, verdict: Again | GiveUp, now_s: float) -> None:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if isinstance(verdict, GiveUp):
            raise Stop(verdict.exit_code, f"{child.name} {how}: {verdict.reason}; everything is stopped")
        self._due_s[child] = verdict.at_s
        self._say(f"{child.name} {how}: it is started again in {verdict.at_s - now_s:g} s")

    def _start_again(self, child: Child, now_s: float) -> None:
        del self._due_s[child]
        child.launch()
        self._started_s[child] = now_s


def stop_together(
    children: Sequence[Child],
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    impatient: Callable[[], bool] = lambda: False,
) -> None:
    """Ask all, wait for each until its own timeout; then, or when `impatient`, by force."""
    running = [child for child in children if child.pid is not None]
    for child in running:
        child.ask_to_stop()
    asked_s = clock()
    while running := [child for child in running if child.pid is not None]:
        for child in running:
            hurried = impatient()
            if hurried or clock() - asked_s > child.stop_timeout_s:
                why = "is stopped by force, as asked" if hurried else "did not stop in time: it is killed"
                say(f"{child.name} {why}")
                child.kill()
        time.sleep(LOOK_EVERY_S / 5)


def run_processes(
    role: str, count: int, settings: Settings, *, arguments: Sequence[str] = (), pass_fds: Sequence[int] = ()
) -> None:
    """`--processes N`: until a signal, which is the good end, or `Stop`. All inherit the descriptors `pass_fds`."""
    say = structlog.get_logger(__name__).info
    children = copies(role, count, settings.admin.listen, arguments=arguments, pass_fds=pass_fds)
    supervisor = Supervisor([children], say)
    try:
        with Interrupts() as interrupts:
            try:
                supervisor.start()
                supervisor.run(interrupts)
            finally:
                supervisor.stop(lambda: interrupts.impatient)
    except Interrupted:
        say(f"{count} {role} processes stopped")
