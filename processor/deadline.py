"""One monotonic deadline, shared by all blocking calls of one piece of work."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

Clock = Callable[[], float]  # monotonic seconds


@dataclass(frozen=True, slots=True)
class Deadline:
    at_s: float
    clock: Clock = time.monotonic

    @classmethod
    def after(cls, seconds: float, clock: Clock = time.monotonic) -> Self:
        return cls(clock() + seconds, clock)

    def remaining_s(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.at_s - self.clock())

    def passed(self) -> bool:
        return self.clock() >= self.at_s
