"""When children are started again, when everything stops, and in which order."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from processor import become as module_become
from processor import child as module_child
from processor.child import Child, kill_family, spawn
from processor.errors import ExitCode, Stop
from processor.liveness import Stuck
from processor.supervise import (
    Again,
    GiveUp,
    Interrupted,
    Interrupts,
    Program,
    RestartPolicy,
    Supervisor,
    copies,
    stop_together,
)

SLEEP = "import time; time.sleep(60)"
STUBBORN = "import pathlib, signal, sys, time; signal.signal(15, lambda *_: None); pathlib.Path(sys.argv[1]).touch(); "


class Script(Child):
    """Python code as a child; `started` counts its lives."""

    def __init__(self, code: str, *arguments: str, name: str = "script", stop_timeout_s: float = 5) -> None:
        self.name = name
        self.stop_timeout_s = stop_timeout_s
        self.started = 0
        self._command = [sys.executable, "-I", "-S", "-c", code, *arguments]

    def launch(self) -> None:
        self.started += 1
        self._process = spawn(self._command)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def wait_until(condition: Callable[[], object], within_s: float = 10) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not come true in time"
        time.sleep(0.01)


def delays(policy: RestartPolicy, deaths_s: Sequence[float]) -> list[float | GiveUp]:
    """What follows each death of a child that is dead at once after its start."""
    verdicts = [(now_s, policy.died(1, started_s=now_s, now_s=now_s)) for now_s in deaths_s]
    return [verdict if isinstance(verdict, GiveUp) else verdict.at_s - now_s for now_s, verdict in verdicts]


def test_the_delay_doubles_from_half_a_second_to_ten() -> None:
    assert delays(RestartPolicy(), [0, 20, 40, 60, 80, 100, 120]) == [0.5, 1, 2, 4, 8, 10, 10]


def test_after_a_minute_of_life_the_delay_is_short_again() -> None:
    policy = RestartPolicy()
    assert delays(policy, [0, 20, 40])[-1] == 2
    assert policy.died(1, started_s=42, now_s=102) == Again(102.5)


def test_five_deaths_within_a_minute_stop_everything() -> None:
    assert delays(RestartPolicy(), [0, 10, 20, 30, 60])[-1] == GiveUp(
        ExitCode.DEPENDENCY, "it died 5 times within 60 s"
    )


def test_five_deaths_in_more_than_a_minute_do_not() -> None:
    assert not any(isinstance(d, GiveUp) for d in delays(RestartPolicy(), [0, 10, 20, 30, 60.1, 75]))


@pytest.mark.parametrize("exit_code", [0, 1, 3, -signal.SIGKILL, 127])
def test_every_other_end_counts_as_a_death(exit_code: int) -> None:
    assert RestartPolicy().died(exit_code, started_s=0, now_s=7) == Again(7.5)


def test_a_child_that_protects_the_numbers_is_tried_every_ten_seconds_and_never_given_up() -> None:
    policy = RestartPolicy()
    assert {policy.died(4, started_s=0, now_s=7) for _ in range(20)} == {Again(17)}
    assert policy.died(1, started_s=0, now_s=7) == Again(7.5)


def test_wrong_settings_stop_everything_at_once() -> None:
    assert RestartPolicy().died(2, started_s=0, now_s=7) == GiveUp(
        ExitCode.USAGE, "its settings or arguments are wrong"
    )


def test_a_killed_child_lives_again_when_its_time_has_come() -> None:
    clock, said = Clock(), list[str]()
    child = Script(SLEEP)
    supervisor = Supervisor([[child]], said.append, clock)
    supervisor.start()
    try:
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        wait_until(lambda: child.pid is None)
        supervisor.look()
        clock.now_s += 0.49
        supervisor.look()
        assert child.started == 1
        clock.now_s += 0.01
        supervisor.look()
        assert (child.started, child.pid is not None) == (2, True)
        assert said == ["script was ended by signal 9: it is started again in 0.5 s"]
    finally:
        supervisor.stop()


def test_the_others_stay_up_while_one_child_is_given_up() -> None:
    clock = Clock()
    failing, healthy = Script("raise SystemExit(3)", name="failing"), Script(SLEEP, name="healthy")
    supervisor = Supervisor([[failing, healthy]], lambda _: None, clock)
    supervisor.start()
    try:
        for _ in range(4):
            wait_until(lambda: failing.pid is None)
            supervisor.look()
            clock.now_s += 5
            supervisor.look()
        wait_until(lambda: failing.pid is None)
        with pytest.raises(Stop, match="failing ended with exit code 3: it died 5 times within 60 s") as stop:
            supervisor.look()
        assert (stop.value.exit_code, failing.started) == (3, 5)
        assert (healthy.pid is not None, healthy.started) == (True, 1)
    finally:
        supervisor.stop()
    assert healthy.pid is None


def test_stages_stop_one_after_the_other() -> None:
    ended: list[str] = []
    first, second = Script(SLEEP, name="first"), Script(SLEEP, name="second")

    def clock() -> float:
        """Asked by the loop that waits: who is gone by then?"""
        ended.extend(c.name for c in (first, second) if c.poll() is not None and c.name not in ended)
        return time.monotonic()

    supervisor = Supervisor([[first], [second]], lambda _: None, clock)
    supervisor.start()
    supervisor.stop()
    clock()
    assert ended == ["first", "second"]
    assert (first.poll(), second.poll()) == (-signal.SIGTERM, -signal.SIGTERM)


def test_a_child_that_ignores_the_request_is_killed_after_its_timeout(tmp_path: Path) -> None:
    child, said = Script(STUBBORN + SLEEP, str(tmp_path / "up"), stop_timeout_s=0.1), list[str]()
    child.launch()
    wait_until((tmp_path / "up").exists)
    stop_together([child], said.append)
    assert child.poll() == -signal.SIGKILL
    assert said == ["script did not stop in time: it is killed"]


def test_an_impatient_operator_does_not_wait_for_the_timeout(tmp_path: Path) -> None:
    child = Script(STUBBORN + SLEEP, str(tmp_path / "up"), stop_timeout_s=60)
    child.launch()
    wait_until((tmp_path / "up").exists)
    said: list[str] = []
    stop_together([child], said.append, impatient=lambda: True)
    assert said == ["script is stopped by force, as asked"]
    assert child.poll() == -signal.SIGKILL


def test_the_first_signal_interrupts_and_the_second_one_only_makes_impatient() -> None:
    with Interrupts() as interrupts:
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
        assert not interrupts.impatient
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.impatient
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_while_everything_is_stopped_leaves_nothing_running() -> None:
    first, second = Script(SLEEP), Script(SLEEP)
    supervisor = Supervisor([[first], [second]], lambda _: None)
    supervisor.start()
    asked: list[int] = []

    def interrupted_while_stopping() -> bool:
        if not asked:
            asked.append(1)
            os.kill(os.getpid(), signal.SIGTERM)
        return False

    with Interrupts():
        supervisor.stop(interrupted_while_stopping)
    assert asked
    assert (first.pid, second.pid) == (None, None)


@pytest.mark.parametrize("error", [TypeError("expected a string"), Interrupted()])
def test_what_a_library_makes_of_an_interruption_is_one(error: BaseException) -> None:
    def library() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except Interrupted:
            raise error from None

    with pytest.raises(Interrupted), Interrupts():
        library()


def test_an_interruption_that_a_library_has_swallowed_ends_the_run_all_the_same() -> None:
    with Interrupts() as interrupts:
        with suppress(BaseException):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted):
            Supervisor([], lambda _: None).run(interrupts)


def test_an_error_without_an_interruption_stays_what_it_is_and_so_does_a_sentence_with_one() -> None:
    def sentence() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except Interrupted:
            raise Stop(ExitCode.DEPENDENCY, "the port is taken") from None

    with pytest.raises(TypeError), Interrupts():
        raise TypeError
    with pytest.raises(Stop), Interrupts():
        sentence()


def test_each_copy_has_the_next_admin_port() -> None:
    programs = [p for p in copies("worker", 3, "[::1]:9464") if isinstance(p, Program)]
    assert [p.settings for p in programs] == [
        {"CALL_PROCESSOR_ADMIN__LISTEN": f"[::1]:{port}"} for port in (9464, 9465, 9466)
    ]


TELLS_ITS_CHILD = f"""
import pathlib, sys, time
from processor.child import spawn
pid = spawn([sys.executable, "-c", {SLEEP!r}]).pid
pathlib.Path(sys.argv[1]).write_text(f"{{pid}} ")
time.sleep(60)
"""


@pytest.mark.parametrize("platform", [sys.platform, "a system without prctl"])
def test_a_child_does_not_outlive_a_parent_that_is_killed(platform: str, tmp_path: Path) -> None:
    become = tmp_path / "become.py"
    become.write_text(Path(module_become.__file__).read_text().replace("sys.platform", repr(platform)))
    code = f"from processor import become; become.__file__ = {str(become)!r}\n{TELLS_ITS_CHILD}"
    pid_file = tmp_path / "pid"
    parent = spawn([sys.executable, "-c", code, pid_file])
    wait_until(lambda: pid_file.exists() and pid_file.read_text().endswith(" "))
    child = int(pid_file.read_text())
    wait_until(lambda: SLEEP in psutil.Process(child).cmdline())
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_alive(child))


def test_a_command_that_does_not_exist_ends_with_127() -> None:
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        assert spawn(["/nonexistent/command"], output=nowhere).wait(10) == 127


def test_a_signal_that_comes_while_a_child_is_started_leaves_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def popen(*arguments: Any, **options: Any) -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen(*arguments, **options))
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # not one of pytest-xdist's threads
        return started[0]

    monkeypatch.setattr(module_child, "subprocess", SimpleNamespace(Popen=popen, DEVNULL=subprocess.DEVNULL))
    with Interrupts(), pytest.raises(Interrupted):
        spawn([sys.executable, "-c", SLEEP])
    assert started[0].returncode == -signal.SIGKILL


def test_a_child_gets_the_signals_that_its_start_has_held_back() -> None:
    child = spawn([sys.executable, "-c", SLEEP])
    wait_until(lambda: SLEEP in psutil.Process(child.pid).cmdline())
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM


def test_a_family_is_killed_with_its_grandchildren(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    started = f"import subprocess; p = subprocess.Popen([sys.executable, '-c', {SLEEP!r}])"
    written = "pathlib.Path(sys.argv[1]).write_text(f'{p.pid} ')"
    child = spawn([sys.executable, "-c", f"import pathlib, sys; {started}; {written}; p.wait()", pid_file])
    wait_until(lambda: pid_file.exists() and pid_file.read_text().endswith(" "))
    kill_family(child)
    assert not is_alive(int(pid_file.read_text()))


def is_alive(pid: int) -> bool:
    """Not gone, and not a zombie that nobody has waited for yet."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_child_that_is_stuck_is_killed_and_started_again() -> None:
    said: list[str] = []
    child = Script(SLEEP)
    supervisor = Supervisor([[child]], said.append)
    supervisor.start()
    first = child.pid
    assert first is not None
    supervisor._liveness._stuck = {child: Stuck(first, "the loop has not turned for 61 s")}
    supervisor.look()
    assert child.pid is None
    wait_until(lambda: supervisor.look() or child.pid is not None)  # type: ignore[func-returns-value]
    supervisor._liveness._stuck = {child: Stuck(first, "said of the one before")}
    supervisor.look()
    assert child.pid is not None
    supervisor.stop()
    assert child.started == 2
    assert said[0] == "script is stuck (the loop has not turned for 61 s): it is killed"
