"""make profile: where each microsecond goes, worker and door, under load.

py-spy looks at the threads that run Python, a hundred times a second each; what it sees is charged to the innermost
function of ours, with all that the libraries do for it. The operating system says what each thread used, those of
librdkafka too. perf, if it is there, looks into the session of PostgreSQL.
"""

import re
import shutil
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import psutil
import typer

from bench import peers
from bench.__main__ import clock, place
from bench.backlog import Progress, backlog
from bench.machine import calibration, describe
from bench.place import Place
from bench.posts import Plan
from bench.records import Load
from bench.report import Say
from bench.server import answers, door
from tests.chaos.document import put
from tests.stack import wait_until

LOAD: Final = Load(4_000_000)  # it must last until all has been sampled
SECONDS: Final = 6
PER_S: Final = 100
LEAST: Final = 0.005  # of all samples: what is less is not shown
DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "performance.md"
COMMAND: Final = "make profile"
# Where all statements or all requests pass through tells nothing.
OURS: Final = re.compile(r"(.+) \(.*\bprocessor/(?!cli/|__main__|sinks/postgres/connection)([\w/]+\.py)")
LINE: Final = re.compile(r":\d+(?=\))")
NUMBER: Final = re.compile(r"[-/:]?\d+$")
SYMBOL: Final = re.compile(r"^\s+([\d.]+)%\s+(?:\[.\]\s+)?(\S+)")
SYMBOLS: Final = 15

Shares = Mapping[str, float]


def main(
    into: Annotated[bool, typer.Option("--into", help="Put the report into docs/performance.md.")] = False,
) -> None:
    """Where each microsecond goes, worker and door."""
    say = clock()
    with place(say) as here:
        calibrated = calibration()
        report = "\n\n".join([*profile_worker(here, say), *profile_door(here, say)])
    head = f"{describe()}; calibration {calibrated[0]:.0f} ms ({calibrated[1]:.0f} %), then {calibration()[0]:.0f} ms"
    typer.echo(f"{head}\n\n{report}")
    if into:
        put(DOCUMENT, COMMAND, f"{head}\n\n{report}")


def profile_worker(here: Place, say: Say) -> Iterator[str]:
    with backlog(here, LOAD, say) as waiting_records, here.installation(waiting_records.topic) as installation:
        process = installation.start("worker")
        progress = Progress(installation)
        wait_until(lambda: progress() > 0, within_s=60, what="the worker counts")
        assert process.pid is not None
        say("worker: CPU time")
        used, done = Threads.of(process.pid), progress()
        running = sampled(process.pid, here.folder)
        used, done = Threads.of(process.pid) - used, progress() - done
        yield used.text("worker, CPU time", done, "record")
        yield table("worker, CPU time of its loop", shares(running), 1e6 * used.main_s / done, "us a record")
        say("worker: time on the clock, and inside PostgreSQL")
        ((session,),) = installation.rows("SELECT DISTINCT owner_pid FROM checkpoints")
        with ThreadPoolExecutor(1) as pool:
            began_s, done = time.monotonic(), progress()
            symbols = pool.submit(perf, session, here.folder)
            waiting = sampled(process.pid, here.folder, "--idle")
            each_us = 1e6 * (time.monotonic() - began_s) / (progress() - done)
        assert progress() < LOAD.events, "the backlog was gone before all was sampled: raise LOAD"
        yield table(
            "worker, its loop on the clock (waiting for PostgreSQL is in it)", shares(waiting), each_us, "us a record"
        )
        yield symbols.result()


def profile_door(here: Place, say: Say) -> Iterator[str]:
    with door(here) as server, ThreadPoolExecutor(1) as pool:
        load = pool.submit(answers, Plan(server.port, seconds=SECONDS + 5))
        say("door: CPU time")
        pid = server.meter.roots["door"]
        wait_until(lambda: psutil.Process(pid).cpu_percent(0.2) > 20, within_s=30, what="the load has begun")
        began_s, used = time.monotonic(), Threads.of(pid)
        running = sampled(pid, here.folder)
        used, ended_s = Threads.of(pid) - used, time.monotonic()
        done = sum(began_s <= at_s <= ended_s for at_s in load.result().at_s)
    yield used.text("door, CPU time", done, "request")
    yield table("door, CPU time of its event loop", shares(running), 1e6 * used.main_s / done, "us a request")


def sampled(pid: int, folder: Path, *options: str) -> str:
    """Stacks as py-spy writes them: frames from the outermost, a number of samples, a line each."""
    file = folder / "stacks"
    peers.python()
    command = [str(peers.PYTHON.with_name("py-spy")), "record", "--pid", str(pid), "--duration", str(SECONDS)]
    command += ["--rate", str(PER_S), "--format", "raw", "--function", "--threads", "--output", str(file), *options]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, f"py-spy may need root to look into another process: {ended.stderr.strip()}"
    return file.read_text(encoding="utf-8")


def shares(stacks: str) -> Shares:
    """Of the main thread's samples, by the innermost function of ours, or where there is none, of all."""
    found = Counter[str]()
    for stack in stacks.splitlines():
        frames, _, count = stack.rpartition(" ")
        if "MainThread" in frames:
            ours = [match for match in map(OURS.match, frames.split(";")) if match]
            name = f"{ours[-1][1]} ({ours[-1][2]})" if ours else LINE.sub("", frames.rpartition(";")[2])
            found[name] += int(count)
    return {name: count / found.total() for name, count in found.most_common()}


def table(title: str, parts: Shares, whole_us: float, unit: str) -> str:
    shown = {name: share for name, share in parts.items() if share >= LEAST}
    shown["all the rest"] = 1 - sum(shown.values())
    lines = [f"{whole_us * share:8.2f}  {share:5.1%}  {name}" for name, share in shown.items()]
    return "\n".join([f"{title}: {whole_us:.2f} {unit}", *lines])


@dataclass(frozen=True, slots=True)
class Threads:
    """CPU seconds of a process, by the name of the thread: the main one's is that of the program."""

    main_s: float
    others_s: Mapping[str, float]

    @classmethod
    def of(cls, pid: int) -> "Threads":
        main_s, others_s = 0.0, defaultdict[str, float](float)
        for thread in psutil.Process(pid).threads():
            used_s = thread.user_time + thread.system_time
            if thread.id == pid:
                main_s = used_s
            else:
                with suppress(FileNotFoundError):  # it may have ended
                    name = Path(f"/proc/{pid}/task/{thread.id}/comm").read_text(encoding="utf-8").strip()
                    others_s[NUMBER.sub("", name)] += used_s
        return cls(main_s, others_s)

    def __sub__(self, before: "Threads") -> "Threads":
        others_s = {name: used_s - before.others_s.get(name, 0.0) for name, used_s in self.others_s.items()}
        return Threads(self.main_s - before.main_s, others_s)

    def text(self, title: str, done: int, unit: str) -> str:
        named = {"main thread": self.main_s, **dict(sorted(self.others_s.items(), key=lambda one: -one[1]))}
        lines = [f"{1e6 * used_s / done:8.2f}  {name}" for name, used_s in named.items() if used_s > 0]
        return "\n".join([f"{title}: {1e6 * sum(named.values()) / done:.2f} us a {unit}, by thread", *lines])


def perf(pid: int, folder: Path) -> str:
    """The functions in which a session of PostgreSQL spends its CPU time."""
    if shutil.which("perf") is None:
        return "inside PostgreSQL: perf is not installed (Debian: linux-perf)"
    file = str(folder / "perf.data")
    record = ["perf", "record", "--quiet", "--pid", str(pid), "--output", file, "--", "sleep", str(SECONDS)]
    subprocess.run(record, check=True, capture_output=True)
    report = ["perf", "report", "--stdio", "--quiet", "--sort", "symbol", "--input", file]
    said = subprocess.run(report, check=True, capture_output=True, text=True).stdout
    found = [match for match in map(SYMBOL.match, said.splitlines()) if match][:SYMBOLS]
    return "\n".join(["inside PostgreSQL, CPU time of the worker's session", *(f"{m[1]:>8} %  {m[2]}" for m in found)])


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
