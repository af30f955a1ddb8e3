"""The breaker: a bad deploy must not drain a whole topic into the dead letters.

It trips when too many records of one partition were rejected in a row, or too large a share of the last 10,000. Its
state is kept with the checkpoint, so it survives restarts, and stays tripped until `call-processor resume`.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import Final

from processor.sinks.base import Breaker

WINDOW: Final = 10_000


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    run: int  # rejected in a row; 0: off
    share: float  # of WINDOW records; 0: off

    def judge(self, breaker: Breaker, offsets: Iterable[int], rejected: Container[int]) -> Breaker:
        """The state after these records of one partition, in order; `tripped_at` is set if it trips.

        A full window is halved, older records fade: what counts is the last 5,000 to 10,000.
        """
        run, read, bad = breaker.run, breaker.read, breaker.rejected
        for offset in offsets:
            if offset < breaker.allowed_to:
                continue  # an operator has looked at these
            read += 1
            if offset in rejected:
                run, bad = run + 1, bad + 1
                if self._trips(run, bad):
                    return replace(breaker, run=run, read=read, rejected=bad, tripped_at=offset)
            else:
                run = 0
            if read == WINDOW:
                read, bad = read // 2, bad // 2
        return replace(breaker, run=run, read=read, rejected=bad)

    def _trips(self, run: int, rejected: int) -> bool:
        return bool((self.run and run >= self.run) or (self.share and rejected > self.share * WINDOW))
