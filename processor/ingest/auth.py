"""Who posts: `Authorization: Basic <base64 of api:key>`, which the SDK sends, or `Bearer <key>`.

A key is looked up by its SHA-256. How long that takes tells nothing of the keys there are: nobody can choose a digest,
and what was found (or a digest that no key has) is compared in constant time.
"""

import binascii
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from processor.deadline import Clock
from processor.errors import Unavailable
from processor.ingest import answers
from processor.ingest.answers import Refused
from processor.ingest.key_file import DIGEST_BYTES, Key

USER: Final = b"api:"
UNREADABLE_RETRY_AFTER_S: Final = 5
FORGET_EVERY_S: Final = 60.0  # rates of keys that have not been used for a while
ROUNDING_S: Final = 1e-6

_NOBODY: Final = Key("", bytes(DIGEST_BYTES), ())


class Keys:
    """Those of one key file, by digest."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._by_digest = {key.digest: key for key in keys}

    def __len__(self) -> int:
        return len(self._by_digest)

    def find(self, secret: bytes) -> Key | None:
        digest = sha256(secret).digest()
        key = self._by_digest.get(digest, _NOBODY)
        return key if compare_digest(key.digest, digest) else None


class Credentials:
    """Judges requests. `current`: the keys that are valid now; None while none could be read."""

    def __init__(
        self, current: Callable[[], Keys | None], *, now: Callable[[], datetime], rate: "RateLimit | None" = None
    ) -> None:
        self._current = current
        self._now = now
        self._rate = rate

    def judge(self, headers: Iterable[tuple[bytes, bytes]]) -> Key:
        """The key of this request. `Refused`: 401, 429. `Unavailable`: no keys could be read yet."""
        keys = self._current()
        if keys is None:
            raise Unavailable("the key file cannot be used", UNREADABLE_RETRY_AFTER_S, reason="key_file")
        given = [value for name, value in headers if name == b"authorization"]
        key = keys.find(_secret(given[0])) if len(given) == 1 else None
        if key is None or key.is_expired(self._now()):
            raise Refused(answers.UNAUTHORIZED)
        if self._rate is not None:
            self._rate.count(key)
        return key


def _secret(authorization: bytes) -> bytes:
    """What is to be hashed; of a header that says nothing usable, its emptiness, which no key has."""
    scheme, _, rest = authorization.partition(b" ")
    scheme = scheme.lower()
    if scheme == b"bearer":
        return rest.strip()
    if scheme != b"basic":
        return b""
    try:
        pair = binascii.a2b_base64(rest.strip(), strict_mode=True)
    except binascii.Error:
        return b""
    return pair[len(USER) :] if pair.startswith(USER) else b""


class RateLimit:
    """So many requests a second of one key, and as many at once (at least one): the generic cell rate algorithm.

    One number a key, so what is kept is bounded by the keys that there are; those that are gone are forgotten.
    """

    def __init__(self, requests_per_s: float, clock: Clock) -> None:
        self._cost_s = 1 / requests_per_s
        self._burst_s = max(1.0, self._cost_s)
        self._clock = clock
        self._full_at_s: dict[bytes, float] = {}  # by digest: when all that was taken has come back
        self._forget_at_s = clock() + FORGET_EVERY_S

    def count(self, key: Key) -> None:
        """`Refused` (429, with the seconds until the next request is taken); what is refused does not count."""
        now_s = self._clock()
        if now_s >= self._forget_at_s:
            self._forget(now_s)
        full_at_s = max(self._full_at_s.get(key.digest, now_s), now_s) + self._cost_s
        wait_s = full_at_s - now_s - self._burst_s
        if wait_s > ROUNDING_S:
            raise Refused(answers.too_many_requests(math.ceil(wait_s)))
        self._full_at_s[key.digest] = full_at_s

    def _forget(self, now_s: float) -> None:
        self._forget_at_s = now_s + FORGET_EVERY_S
        self._full_at_s = {digest: at_s for digest, at_s in self._full_at_s.items() if at_s > now_s}
