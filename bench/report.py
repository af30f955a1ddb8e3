"""What was measured: figures of several runs, kept as JSON, shown as RESULTS.md."""

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from bench.meter import Sample

FOLDER: Final = Path(__file__).parent
RESULTS: Final = FOLDER / "results.json"
DOCUMENT: Final = FOLDER / "RESULTS.md"
Say = Callable[[str], None]

HEAD: Final = """# Results of `make bench`

Written by that command; each section by the one that stands above it, with what it is compared with in the same run.
Broker, database, load and what is measured share the machine, so a rate says what they reach together; the microseconds
of CPU say what each of them needs, and vary less.

- A cell is the median of the runs; in brackets how far highest and lowest are apart, in percent of it.
- *us*: CPU time (user and system) of a process and all its children for one event or request, as the operating system
  counts it. *all* is worker, database and broker together; *load* is what posting costs on top of all.
- *MiB*: the most that its largest process ever had in memory; the broker's is what its JVM was given.
- *calibration*: a loop that always does the same, before and after; in brackets by how much its slowest round was
  slower than its fastest one. Where that is much, the machine was busy with other things, and the figures are off.
- So no figure is known better than its bracket or that of the calibration, whichever is larger: two runs of the whole
  in a row differ by less.
- *times as good*: in the middle of the rounds, each measured beside its round of the other.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """`ratios`: how many times as good as what; the median of the rounds, each beside its round of the other."""

    scenario: str
    samples: Sequence[Sample]
    ratios: dict[str, float] = field(default_factory=dict)

    def median(self, figure: str) -> float:
        return statistics.median(sample[figure] for sample in self.samples)

    def spread(self, figure: str) -> float:
        """Highest less lowest."""
        values = [sample[figure] for sample in self.samples]
        return max(values) - min(values)

    def compare(self, figure: str, other: "Result", *, less_is_better: bool = False) -> None:
        pairs = zip(self.samples, other.samples, strict=True)
        quotient = statistics.median(ours[figure] / theirs[figure] for ours, theirs in pairs)
        self.ratios[f"{figure}, {other.scenario}"] = 1 / quotient if less_is_better else quotient


@dataclass(frozen=True, slots=True)
class Section:
    """`calibration`: milliseconds and percent, before and after."""

    title: str
    command: str
    date: str
    machine: str
    versions: Mapping[str, str]
    calibration: Sequence[Sequence[float]]
    results: Sequence[Result]


def repeated(scenario: str, runs: int, run: Callable[[], Sample], say: Say) -> Result:
    samples = []
    for number in range(1, runs + 1):
        samples.append(run())
        say(f"{scenario}, {number} of {runs}: {line(samples[-1])}")
    return Result(scenario, samples)


def line(sample: Sample) -> str:
    return ", ".join(f"{_number(value)} {figure}" for figure, value in sample.items() if not figure.endswith("MiB"))


def save(section: Section, file: Path = RESULTS, document: Path = DOCUMENT) -> None:
    """In place of the section of the same title; the others stay as they were measured."""
    sections = {one["title"]: one for one in json.loads(file.read_text())} if file.exists() else {}
    sections[section.title] = asdict(section)
    file.write_text(json.dumps(list(sections.values()), indent=1) + "\n", encoding="utf-8")
    document.write_text(HEAD + "".join(map(text, load(file).values())), encoding="utf-8")


def load(file: Path = RESULTS) -> dict[str, Section]:
    """By title."""
    found = [Section(**one) for one in json.loads(file.read_text(encoding="utf-8"))]
    return {
        one.title: Section(**{**asdict(one), "results": [Result(**result) for result in one.results]})  # type: ignore[arg-type]
        for one in found
    }


def text(section: Section) -> str:
    before, after = (f"{ms:.0f} ms ({percent:.0f} %)" for ms, percent in section.calibration)
    versions = ", ".join(f"{name} {version}" for name, version in section.versions.items())
    lines = [
        f"\n## {section.title}\n",
        f"`{section.command}`, {section.date}; {section.machine}; calibration {before}, then {after}.",
        f"{versions}.\n",
        *_table(section.results),
    ]
    compared = [(result.scenario, name, times) for result in section.results for name, times in result.ratios.items()]
    if compared:
        lines += ["\n| | compared by, with | times as good |", "|---|---|---:|"]
        lines += [f"| {scenario} | {name} | {times:.2f} |" for scenario, name, times in compared]
    return "\n".join(lines) + "\n"


def _table(results: Iterable[Result]) -> Iterator[str]:
    """One for all results that have the same figures."""
    tables = defaultdict[tuple[str, ...], list[Result]](list)
    for result in results:
        tables[tuple(result.samples[0])].append(result)
    for figures, rows in tables.items():
        yield from ("", f"| | runs | {' | '.join(figures)} |", "|---|" + "---:|" * (len(figures) + 1))
        for result in rows:
            yield f"| {result.scenario} | {len(result.samples)} | {' | '.join(_cell(result, one) for one in figures)} |"


def _cell(result: Result, figure: str) -> str:
    middle = result.median(figure)
    if not middle or len(result.samples) == 1 or figure.endswith("MiB"):
        return _number(middle)
    return f"{_number(middle)} ({100 * result.spread(figure) / middle:.0f} %)"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
