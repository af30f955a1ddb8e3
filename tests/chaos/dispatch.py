"""Faults happen as they are planned: at their time, or as soon as what they take hold of is free."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import KafkaException

from tests.chaos.faults import CAPACITY, Fault
from tests.chaos.scene import Impossible
from tests.chaos.schedule import Planned

TRY_AGAIN_S: Final = 1.5
TRIES: Final = 20
MENDED_WITHIN_S: Final = 60.0


@dataclass(slots=True)
class Happened:
    """In seconds since the run began."""

    name: str
    target: str
    began_s: float
    ended_s: float = float("inf")


@dataclass(slots=True)
class _Active:
    fault: Fault
    happened: Happened
    heal_at_s: float
    give_up_at_s: float
    mending: bool = False


@dataclass(slots=True)
class _Waiting:
    planned: Planned
    at_s: float
    tries: int = 0


@dataclass(slots=True)
class Dispatcher:
    """`make`: the fault of a plan."""

    make: Callable[[Planned], Fault]
    say: Callable[[str], None]
    happened: list[Happened] = field(default_factory=list)
    impossible: Counter[str] = field(default_factory=Counter)
    _waiting: list[_Waiting] = field(default_factory=list)
    _active: list[_Active] = field(default_factory=list)

    def plan(self, planned: Sequence[Planned]) -> None:
        self._waiting += [_Waiting(one, one.at_s) for one in planned]

    @property
    def over(self) -> bool:
        return not self._waiting and not self._active

    def turn(self, now_s: float) -> None:
        for active in list(self._active):
            self._go_on(active, now_s)
        for waiting in list(self._waiting):
            if waiting.at_s <= now_s:
                self._begin(waiting, now_s)

    def forget_the_rest(self) -> None:
        """What is not begun does not happen; what has begun is mended now."""
        self._waiting.clear()
        for active in self._active:
            active.heal_at_s = 0.0

    def _begin(self, waiting: _Waiting, now_s: float) -> None:
        planned, fault = waiting.planned, self.make(waiting.planned)
        taken = Counter(claim for active in self._active for claim in active.fault.claims)
        if any(taken[claim] >= CAPACITY[claim] for claim in fault.claims):
            return
        try:
            target = fault.inject()
        except (Impossible, KafkaException) as reason:
            waiting.at_s, waiting.tries = now_s + TRY_AGAIN_S, waiting.tries + 1
            if waiting.tries == TRIES:
                self._waiting.remove(waiting)
                self.impossible[planned.name] += 1
                self.say(f"{planned.name}: impossible, {reason}")
            return
        self._waiting.remove(waiting)
        happened = Happened(planned.name, target, now_s)
        self.happened.append(happened)
        heal_at_s = now_s + planned.hold_s
        self._active.append(_Active(fault, happened, heal_at_s, heal_at_s + MENDED_WITHIN_S))
        self.say(f"{planned.name}: {target}, for {planned.hold_s:.1f} s")

    def _go_on(self, active: _Active, now_s: float) -> None:
        if not active.mending:
            active.fault.tick()
            if now_s < active.heal_at_s:
                return
            try:
                active.fault.heal()
            except (Impossible, KafkaException):
                if now_s > active.give_up_at_s:
                    raise
                active.heal_at_s = now_s + TRY_AGAIN_S
                return
            active.mending = True
        if active.fault.healed:
            active.happened.ended_s = now_s
            self._active.remove(active)
