"""Which keys may have been counted lately: two Bloom filters; the older one is dropped when the younger one is full.

A hint and no more, by which repeats are told from what is new before anything is written. Some keys are suspected
wrongly, and none is sure to be: the database was asked by others, too, or went back in time.

All bits of a key lie in one word, so that looking at it costs one access to memory; that takes twice as many bits.
"""

from typing import Any, Final

import numpy as np

from processor.counting.columns import Bools, Words

WORDS: Final = 20  # 2^20 of them, 8 MiB
KEYS: Final = 2_000_000  # of a generation: with BITS, less than 1 of 1,000 new keys is suspected
BITS: Final = 4  # of each key
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)  # odd, so that each bit of a key changes those above it


class KeyFilter:
    """Keys are the last 64 bits of `call_key`, which are bits of a hash. Of the last `keys` none is forgotten."""

    def __init__(self, keys: int = KEYS) -> None:
        self._keys = keys
        self._count = 0
        self._young = np.zeros(1 << WORDS, np.uint64)
        self._old = np.zeros_like(self._young)

    def suspected(self, keys: Words) -> Bools:
        """Which of them were added, or look like it."""
        word, bits = _places(keys)
        found: Bools = (self._young[word] & bits == bits) | (self._old[word] & bits == bits)
        return found

    def add(self, keys: Words) -> None:
        if self._count + len(keys) > self._keys:
            self._young, self._old = np.zeros_like(self._young), self._young
            self._count = 0
        self._count += len(keys)
        word, bits = _places(keys)
        np.bitwise_or.at(self._young, word, bits)


def _places(keys: Words) -> tuple[Any, Words]:
    """Of each key: its word in a filter, and its bits there."""
    rest = keys * _SPREAD  # modulo 2^64
    word = rest >> np.uint64(64 - WORDS)
    bits = np.zeros_like(keys)
    for _ in range(BITS):
        bits |= np.uint64(1) << (rest & np.uint64(63))
        rest = rest >> np.uint64(6)
    return word.astype(np.int64), bits
