"""Child processes that do not outlive us, whatever ends us."""

import os
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from processor import become
from processor.deadline import Deadline

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FAMILY_TIMEOUT_S: Final = 5.0


def spawn(
    command: Sequence[str | Path],
    *,
    output: IO[bytes] | int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: tuple[int, int] | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start `command`; `output` takes its stdout and stderr (None: our stderr, our stdout stays ours).

    `user`: uid and gid to become (as root), having entered `cwd` before. A command that cannot be started exits 127.

    What starts is become.py, which asks for `death_signal` at our end and becomes the command by `exec`: the process id
    stays the same, and nothing runs between `fork` and `exec`, where a lock held by another thread would hang for ever.
    On Linux the kernel sends that signal, prctl(2) PR_SET_PDEATHSIG, and does so when the *thread* ends that called
    `spawn`: call it from one that lives as long as the child. Elsewhere a process watches us: best effort.

    The child leads its own session, so that Ctrl-C in a terminal reaches us alone and we stop in order. A signal that
    comes while it is started is kept until then: if its handler raises, the child is gone with all that it started.
    """
    out = sys.stderr.fileno() if output is None else output
    how = [str(os.getpid()), str(int(death_signal)), ":".join(map(str, user or ())), str(cwd or "")]
    process: subprocess.Popen[bytes] | None = None
    try:
        with _held_back() as held:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", become.__file__, *how, *map(str, command)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, start_new_session=True, pass_fds=pass_fds,
            )  # fmt: skip
        for number in held:
            signal.raise_signal(number)
    except BaseException:
        if process is not None:
            kill_family(process)
        raise
    return process


@contextmanager
def _held_back() -> Iterator[list[int]]:
    """Those of STOP_SIGNALS that came meanwhile, and had no effect yet.

    By their handlers, and not by a mask: any thread of a library may take what the main thread does not want. In other
    threads nothing needs holding back, as Python runs handlers in the main thread.
    """
    held: list[int] = []
    handlers: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if signal.getsignal(number) not in {signal.SIG_IGN, None}:
                    handlers[number] = signal.signal(number, lambda number, _: held.append(number))
        yield held
    finally:
        _give_back(handlers)


def _give_back(handlers: dict[int, Any]) -> None:
    """All of them, even if one that was given back raises at once."""
    try:
        while handlers:
            number = next(iter(handlers))
            signal.signal(number, handlers[number])
            del handlers[number]
    finally:
        if handlers:
            _give_back(handlers)


def call(
    command: Sequence[str | Path],
    *,
    output: IO[bytes],
    timeout_s: float,
    cwd: Path | None = None,
    user: tuple[int, int] | None = None,
) -> int:
    """`spawn` it and wait for its end: the exit code. If we are interrupted, nothing is left of it."""
    process = spawn(command, output=output, cwd=cwd, user=user)
    try:
        return process.wait(timeout_s)
    except BaseException:
        kill_family(process)
        raise


def kill_family(process: subprocess.Popen[bytes]) -> None:
    """Kill a child that `spawn` started and all that it has started in its session. Returns when they are gone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    deadline = Deadline.after(FAMILY_TIMEOUT_S)
    with suppress(ProcessLookupError):
        while not deadline.passed():  # what init does not reap stays for ever, as a zombie
            os.killpg(process.pid, 0)
            time.sleep(0.01)


class Child(ABC):
    """A process of ours that may be started, stopped and killed again and again."""

    name: str
    stop_signal: signal.Signals = signal.SIGTERM
    kill_signal: signal.Signals = signal.SIGKILL
    stop_timeout_s: float = 30
    admin: str | None = None  # where it answers /livez, if it does

    _process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def launch(self) -> object:
        """Set `_process`; do not wait until it serves."""

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def poll(self) -> int | None:
        """The exit code (negative: the signal that ended it); None while it runs or before the first start."""
        return None if self._process is None else self._process.poll()

    def ask_to_stop(self) -> None:
        if self.pid is not None and self._process is not None:
            self._process.send_signal(self.stop_signal)

    def stop(self) -> None:
        """Ask, wait at most `stop_timeout_s`, then by force. Returns when it is gone."""
        self.ask_to_stop()
        self._wait_or_kill()

    def kill(self) -> None:
        """What a crash looks like. Returns when it is gone."""
        if self.pid is not None and self._process is not None:
            self._process.send_signal(self.kill_signal)
        self._wait_or_kill()

    def _wait_or_kill(self) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(self.stop_timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
