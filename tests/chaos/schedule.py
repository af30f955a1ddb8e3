"""Which fault when: drawn from a seed, and nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

FIRST_S: Final = 2.0
BURST_S: Final = (0.0, 3.0)  # from one fault to the next, every second time,
QUIET_S: Final = (8.0, 24.0)  # or else: about 9 s on average


@dataclass(frozen=True, slots=True)
class Kind:
    """How often a fault is dealt in proportion to others, and for how long it lasts, in seconds."""

    weight: int
    least_s: float
    most_s: float


@dataclass(frozen=True, slots=True)
class Planned:
    """`draw`, in 0..1: decides whom it hits."""

    at_s: float
    name: str
    hold_s: float
    draw: float


def schedule(seed: int, faults: int, kinds: Mapping[str, Kind]) -> list[Planned]:
    """`faults` of them by time. Kinds are dealt like cards from a shuffled pack: none is missing in a long run. Some
    follow each other at once and overlap, after others there is quiet."""
    r = Random(seed)
    at_s, planned = FIRST_S, []
    for _, name in zip(range(faults), _dealt(r, kinds), strict=False):
        kind = kinds[name]
        planned.append(Planned(at_s, name, r.uniform(kind.least_s, kind.most_s), r.random()))
        at_s += r.uniform(*r.choice((BURST_S, QUIET_S)))
    return planned


def duration_s(planned: Sequence[Planned]) -> float:
    """Until the last one is over."""
    return max((fault.at_s + fault.hold_s for fault in planned), default=0.0)


def _dealt(r: Random, kinds: Mapping[str, Kind]) -> Iterator[str]:
    while True:
        pack = [name for name, kind in kinds.items() for _ in range(kind.weight)]
        r.shuffle(pack)
        yield from pack
