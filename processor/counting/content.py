"""The content hash: two records of one call are a conflict if and only if they would have been counted differently.

It is a sum of mixed words, modulo 2^64, so that the order of models does not matter and columns can compute it. It is
stored with the dedupe keys: it must never change.
"""

import hashlib
from typing import Final

from processor.calls import USAGE_FIELDS

MASK: Final = (1 << 64) - 1
FIELD_WEIGHTS: Final = tuple(
    int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") | 1 for name in USAGE_FIELDS
)
HOUR_WEIGHT: Final = 0x9E3779B97F4A7C15
STATUS_WEIGHT: Final = 0xC2B2AE3D27D4EB4F
MIX_1: Final = 0xBF58476D1CE4E5B9
MIX_2: Final = 0x94D049BB133111EB


def text_hash(text: str) -> int:
    """64 bits of BLAKE2b, unsigned."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def mix(word: int) -> int:
    """The finalizer of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014)."""
    word = (word ^ (word >> 30)) * MIX_1 & MASK
    word = (word ^ (word >> 27)) * MIX_2 & MASK
    return word ^ (word >> 31)
