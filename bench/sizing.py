"""How many of what for so many calls a second: computed from what `make bench` measured, put into docs/runbook.md.

One process and one core are filled to TARGET of what they can, the rest is for peaks and for catching up; a worker to
half, so that an hour's backlog is gone an hour later.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final

from bench import door, worker
from bench.report import Result, Section
from tests.chaos.document import put

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "runbook.md"
COMMAND: Final = "make bench"
RATES: Final = (100, 1_000, 5_000, 20_000, 50_000, 100_000)
TARGET: Final = 0.6
WORKER_TARGET: Final = 0.5
PARTITIONS: Final = 12  # what `call-processor topics` makes; more in steps of as many
KEYS_DAYS: Final = 37  # the horizon and two days


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of CPU for a call; `worker_per_s`: what one process reaches; `key_bytes`: on disk, for a call."""

    door_us: float
    worker_us: float
    postgres_us: float
    broker_us: float
    worker_per_s: float
    key_bytes: float


def costs(sections: Mapping[str, Section]) -> Costs:
    base, posted = _of(sections[worker.TITLE], worker.CASES[0].name), _of(sections[door.TITLE], door.AT_64)
    return Costs(
        door_us=posted.median("door us"),
        worker_us=base.median("worker us"),
        postgres_us=base.median("PostgreSQL us"),
        broker_us=posted.median("broker us") + base.median("broker us"),
        worker_per_s=base.median("events/s"),
        key_bytes=base.median("bytes a call"),
    )


def _of(section: Section, scenario: str) -> Result:
    return {result.scenario: result for result in section.results}[scenario]


@dataclass(frozen=True, slots=True)
class Size:
    doors: int
    door_cores: float
    partitions: int
    workers: int
    worker_cores: float
    postgres_cores: float
    postgres_gib: float
    broker_cores: float


def size(calls_per_s: float, cost: Costs) -> Size:
    """Never fewer than two of our processes of a kind: one may be restarted."""
    workers = max(2, ceil(calls_per_s / (WORKER_TARGET * cost.worker_per_s)))
    door_cores = calls_per_s * cost.door_us / 1e6 / TARGET
    return Size(
        doors=max(2, ceil(door_cores)),
        door_cores=door_cores,
        partitions=PARTITIONS * ceil(2 * workers / PARTITIONS),  # two for each, so that one more worker helps
        workers=workers,
        worker_cores=calls_per_s * cost.worker_us / 1e6 / TARGET,
        postgres_cores=calls_per_s * cost.postgres_us / 1e6 / TARGET,
        postgres_gib=calls_per_s * 86_400 * KEYS_DAYS * cost.key_bytes / 2**30,
        broker_cores=calls_per_s * cost.broker_us / 1e6 / TARGET,
    )


HEAD: Final = """\
           doors             partitions   workers           PostgreSQL             Kafka
calls/s    processes  cores               processes  cores  cores   keys on disk   cores"""


def text(cost: Costs) -> Iterator[str]:
    yield HEAD
    for rate in RATES:
        of = size(rate, cost)
        doors, workers = f"{of.doors:>9}  {of.door_cores:>5.1f}", f"{of.workers:>9}  {of.worker_cores:>5.1f}"
        postgres = f"{of.postgres_cores:>5.1f}  {of.postgres_gib:>9,.0f} GiB"
        yield f"{rate:>7,}    {doors}  {of.partitions:>10}   {workers}  {postgres}   {of.broker_cores:>5.1f}"
    yield f"\none project, at most: {cost.worker_per_s:,.0f} calls/s (it has one partition, so one worker)"


def write(sections: Mapping[str, Section], document: Path = DOCUMENT) -> None:
    put(document, COMMAND, "\n".join(text(costs(sections))))
