"""Which keys may have been counted lately: two Bloom filters; the older one is dropped when the younger one is full.

A hint and no more, by which repeats are told from what is new before anything is written. Some keys are suspected
wrongly, and none is sure to be: the database was asked by others, too, or went back in time.
"""

from typing import Any, Final

import numpy as np

from processor.counting.columns import Bools, Words

BITS: Final = 25  # 2^25 of them, 4 MiB
KEYS: Final = 2_000_000  # of a generation: with PROBES, less than 3 of 1,000 new keys are suspected
PROBES: Final = 4


class KeyFilter:
    """Keys are the last 64 bits of `call_key`, which are bits of a hash. Of the last `keys` none is forgotten."""

    def __init__(self, keys: int = KEYS) -> None:
        self._keys = keys
        self._count = 0
        self._young = np.zeros(1 << BITS - 3, np.uint8)
        self._old = np.zeros_like(self._young)

    def suspected(self, keys: Words) -> Bools:
        """Which of them were added, or look like it."""
        byte, bit = _places(keys)
        return _all(self._young[byte] & bit) | _all(self._old[byte] & bit)

    def add(self, keys: Words) -> None:
        if self._count + len(keys) > self._keys:
            self._young, self._old = np.zeros_like(self._young), self._young
            self._count = 0
        self._count += len(keys)
        byte, bit = _places(keys)
        np.bitwise_or.at(self._young, byte, bit)


def _places(keys: Words) -> tuple[Any, Any]:
    """(PROBES, keys): bytes of a filter, and the bit in each."""
    step = keys >> np.uint64(32) | np.uint64(1)
    bits = (keys + step * np.arange(PROBES, dtype=np.uint64)[:, None]) & np.uint64((1 << BITS) - 1)
    return (bits >> np.uint64(3)).astype(np.int64), np.uint8(1) << (bits & np.uint64(7)).astype(np.uint8)


def _all(probes: Any) -> Bools:
    found: Bools = (probes != 0).all(axis=0)
    return found
