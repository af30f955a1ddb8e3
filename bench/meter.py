"""What processes cost, as the operating system counts it (Linux)."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.stack import wait_until

Sample = dict[str, float]  # the figures of one run, by name
PEAK: Final = "VmHWM:"
PATIENCE_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Meter:
    """`roots`: process ids by the names that stand in the figures. All that descends from a process belongs to it."""

    roots: Mapping[str, int]

    def cpu_s(self) -> dict[str, float]:
        """User and system time until now; what ended and was waited for is in its parent's."""
        return {name: sum(sum(one.cpu_times()[:4]) for one in tree(pid)) for name, pid in self.roots.items()}

    def peak_mib(self) -> dict[str, float]:
        """The most that the largest process of each has had in memory."""
        return {name: max(map(_peak_mib, tree(pid))) for name, pid in self.roots.items()}


def tree(pid: int) -> Iterator[psutil.Process]:
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess, FileNotFoundError):
            process.cpu_times()  # it may have ended meanwhile
            yield process


def _peak_mib(process: psutil.Process) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(PEAK):
                return int(line.split()[1]) / 1024
    return 0.0


@dataclass(frozen=True, slots=True)
class Point:
    """How far it is, when, and what was used until then."""

    done: int
    at_s: float
    cpu_s: Mapping[str, float]

    @classmethod
    def now(cls, meter: Meter, done: int) -> "Point":
        return cls(done, time.monotonic(), meter.cpu_s())


def between(first: Point, last: Point, what: str) -> Sample:
    """`what`: events, requests. Rates, and microseconds of CPU for each of them."""
    done = last.done - first.done
    assert done > 0, f"no {what} were measured"
    cost = {f"{name} us": 1e6 * (last.cpu_s[name] - first.cpu_s[name]) / done for name in last.cpu_s}
    return {f"{what}/s": done / (last.at_s - first.at_s), **cost}


def measured(meter: Meter, progress: Callable[[], int], *, until: int, above: int = 0) -> Sample:
    """From the moment when progress is seen to be above `above` (so starting is not in it) until it reaches `until`."""
    points: list[Point] = []

    def reached(done: int) -> bool:
        now = progress()
        if now >= done:
            points.append(Point.now(meter, now))
        return now >= done

    wait_until(lambda: reached(above + 1), within_s=PATIENCE_S, what="the first events are done")
    wait_until(lambda: reached(until), within_s=PATIENCE_S, what=f"{until} events are done")
    peaks = {f"{name} MiB": mib for name, mib in meter.peak_mib().items()}
    return between(points[0], points[-1], "events") | peaks
