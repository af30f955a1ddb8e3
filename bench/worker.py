"""The worker: a backlog of records becomes totals in PostgreSQL; beside it, what others do with the same topic."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from bench import backlog
from bench.backlog import Backlog, Count
from bench.meter import Sample, measured
from bench.place import Place
from bench.records import Load
from bench.report import Result, Say, line

TITLE: Final = "Worker"
RAW, NAIVE, QUIX = "raw consume()", "a naive row loop", "Quix Streams, exactly once"


@dataclass(frozen=True, slots=True)
class Case:
    """`beside`: what is measured in turns with it."""

    name: str
    load: Load
    runs: int = 3
    count: Count = backlog.ours
    beside: Mapping[str, Count] = field(default_factory=lambda: {RAW: backlog.raw_consume})


BASE: Final = Load(1_000_000)
OTHERS: Final = {RAW: backlog.raw_consume, NAIVE: backlog.naive, QUIX: backlog.quix}
CASES: Final = (
    Case("150 B, 1,000 projects, 1 % repeats", BASE, runs=5, beside=OTHERS),
    Case("the same, two processes", BASE, count=backlog.ours_by_two, beside={}),
    Case("1.1 KB", replace(BASE, size=1100)),
    Case("100,000 projects", replace(BASE, projects=100_000)),
    Case("an hour's calls in no order", replace(BASE, scattered=True)),
    Case("5 % repeats", replace(BASE, repeats=0.05)),
    Case("10 models a call", replace(BASE, models=10)),
    Case("80 % of one project", replace(BASE, hot=0.8)),
)
LARGE: Final = replace(BASE, events=20_000_000)
QUARTERS: Final = 4
MANY_KEYS: Final = 100_000_000


def measure(place: Place, say: Say) -> list[Result]:
    results: list[Result] = []
    with ExitStack() as stack:
        before: tuple[Load, Backlog] | None = None
        for case in CASES:
            if before is None or before[0] != case.load:
                stack.close()
                before = case.load, stack.enter_context(backlog.backlog(place, case.load, say))
            results += compared(case, before[1], say)
    return results


def compared(case: Case, waiting: Backlog, say: Say) -> list[Result]:
    beside = {f"{name}, {case.name}": partial(count, waiting) for name, count in case.beside.items()}
    return in_turns({case.name: partial(case.count, waiting), **beside}, case.runs, say)


def in_turns(contestants: Mapping[str, Callable[[], Sample]], runs: int, say: Say) -> list[Result]:
    """Round by round, so that all meet the same disturbances. The first one is compared with the others."""
    samples: dict[str, list[Sample]] = {name: [] for name in contestants}
    for number in range(1, runs + 1):
        for name, run in contestants.items():
            samples[name].append(run())
            say(f"{name}, {number} of {runs}: {line(samples[name][-1])}")
    ours, *others = (Result(name, kept) for name, kept in samples.items())
    for other in others:
        ours.compare("events/s", other)
        ours.compare("all us", other, less_is_better=True)
    return [ours, *others]


def measure_large(place: Place, say: Say) -> list[Result]:
    return [*_measure_many_records(place, say), *_measure_among_many_keys(place, say)]


def _measure_among_many_keys(place: Place, say: Say) -> list[Result]:
    """A million, where a hundred million were counted before."""
    with backlog.backlog(place, BASE, say) as waiting:
        name = f"among {MANY_KEYS:,} keys"
        return in_turns(
            {name: partial(backlog.ours, waiting, MANY_KEYS), CASES[0].name: partial(backlog.ours, waiting)}, 1, say
        )


def _measure_many_records(place: Place, say: Say) -> list[Result]:
    """Twenty million, once: what the last quarter costs beside the first one."""
    with backlog.backlog(place, LARGE, say) as waiting, place.installation(waiting.topic) as installation:
        meter, progress = place.meter(installation.start("worker").pid), backlog.Progress(installation)
        results = []
        for quarter in range(QUARTERS):
            above, until = (waiting.records * part // QUARTERS for part in (quarter, quarter + 1))
            sample = backlog.with_all(measured(meter, progress, above=above, until=until))
            sample["bytes a call"] = backlog.key_bytes(installation) / until
            results.append(Result(f"records {above:,} to {until:,}", [sample]))
            say(f"{results[-1].scenario}: {line(sample)}")
        backlog.check(installation, waiting)
        return results
