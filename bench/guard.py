"""Speed that was reached is kept: a few ratios to what ran beside it, against those that were recorded.

Ratios, because a slow or busy machine slows what is compared as well. Half of what was recorded is a collapse, which is
believed when it is seen twice.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from bench import backlog, door, server, worker
from bench.meter import Sample
from bench.place import Place
from bench.posts import Plan
from bench.records import Load
from bench.report import Result, Say

RECORDED: Final = Path(__file__).with_name("guard.json")
COLLAPSE: Final = 0.5
ROUNDS: Final = 3
LOAD: Final = Load(200_000)
NAIVE_EVENTS: Final = 20_000
POST_S: Final = 3.0

Ratios = Mapping[str, float]
Part = Callable[[Place, Say], Ratios]


def worker_ratios(place: Place, say: Say) -> Ratios:
    with backlog.backlog(place, LOAD, say) as waiting:
        contestants: dict[str, Callable[[], Sample]] = {
            "worker": lambda: backlog.ours(waiting),
            worker.NAIVE: lambda: backlog.naive(waiting, NAIVE_EVENTS),
        }
        return _named("worker", worker.in_turns(contestants, ROUNDS, say)[0])


def door_ratios(place: Place, say: Say) -> Ratios:
    """An echo before each round of the door."""
    servers = {"door": server.door, door.ECHO: server.echo}
    samples: dict[str, list[Sample]] = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, serving in servers.items():
            with serving(place) as one:
                samples[name].append(server.post(one, Plan(one.port, seconds=POST_S)))
                say(f"{name}: {samples[name][-1]['requests/s']:,.0f} requests/s")
    ours, echo = (Result(name, kept) for name, kept in samples.items())
    door.compare(ours, echo)
    return _named("door", ours)


PARTS: Final[Mapping[str, Part]] = {"worker": worker_ratios, "door": door_ratios}


def _named(part: str, result: Result) -> Ratios:
    return {f"{part}: {name}": ratio for name, ratio in result.ratios.items()}


def watch(parts: Mapping[str, Callable[[], Ratios]], recorded: Ratios, say: Say) -> list[str]:
    """What has collapsed, a sentence each."""
    found: list[str] = []
    for name, measure in parts.items():
        if first := list(collapsed(measure(), _of(name, recorded), say)):
            say(f"measured again, to be sure: {'; '.join(first)}")
            found += collapsed(measure(), _of(name, recorded), say)
    return found


def collapsed(found: Ratios, recorded: Ratios, say: Say) -> Iterator[str]:
    if found.keys() != recorded.keys():
        raise LookupError(f"{RECORDED.name} has {sorted(recorded)}, measured were {sorted(found)}: record them")
    for name, ratio in found.items():
        say(f"{name}: {ratio:.3g} times, recorded {recorded[name]:.3g}")
        if ratio < COLLAPSE * recorded[name]:
            yield f"{name}: {ratio:.3g} times, less than half of the {recorded[name]:.3g} that were recorded"


def _of(part: str, ratios: Ratios) -> Ratios:
    return {name: ratio for name, ratio in ratios.items() if name.startswith(f"{part}: ")}


def read() -> Ratios:
    ratios: Ratios = json.loads(RECORDED.read_text(encoding="utf-8"))
    return ratios


def record(ratios: Ratios) -> None:
    """Three digits; those of parts that were not measured stay."""
    before = read() if RECORDED.exists() else {}
    rounded = {name: float(f"{ratio:.3g}") for name, ratio in ratios.items()}
    RECORDED.write_text(json.dumps({**before, **rounded}, indent=1) + "\n", encoding="utf-8")
