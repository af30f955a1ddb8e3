"""The fate of some records, told by the poll thread to one that waits."""

import threading
from collections.abc import Iterable

from processor.deadline import Deadline
from processor.errors import Unavailable

LOOK_EVERY_S = 0.05


class Reports:
    def __init__(self, indexes: Iterable[int]) -> None:
        self._waiting = set(indexes)
        self._failures: dict[int, Exception] = {}
        self._changed = threading.Condition()

    def settle(self, index: int, failure: Exception | None) -> None:
        with self._changed:
            self._waiting.discard(index)
            if failure is not None:
                self._failures[index] = failure
            self._changed.notify_all()

    def wait_for_one(self, deadline: Deadline) -> None:
        """Or for a moment: the one may have been told before."""
        if deadline.passed():
            raise Unavailable("too many records wait for the broker")
        with self._changed:
            self._changed.wait(min(LOOK_EVERY_S, deadline.remaining_s()))

    def failures(self, deadline: Deadline) -> dict[int, Exception]:
        with self._changed:
            if not self._changed.wait_for(lambda: not self._waiting, deadline.remaining_s()):
                raise Unavailable(f"{len(self._waiting)} records were not acknowledged in time")
            return self._failures
