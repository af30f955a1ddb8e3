"""Records as an enemy puts them on the topic, and what must become of each."""

from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import Final

from processor.calls import parse_call_end
from processor.codec.framing import CONFLUENT_MARKER, HEADER_V1, MARKER
from processor.codec.rows import decode_counted, encode
from processor.errors import Rejected
from tests import hostile
from tests.fuzz.requests import MARK, good_call, mangled_bytes

HORIZON_DAYS: Final = 35
_FOREIGN: Final = (
    b"", b"{}", b'{"end": {"project_id": "%b/x"}}' % MARK.encode(), b"\0" * 5,
    CONFLUENT_MARKER + b"\0\0\0\7" + MARK.encode(), MARKER + b"\1" * 8 + MARK.encode(), MARKER, HEADER_V1,
    HEADER_V1 + b"\xff" * 10, HEADER_V1 + hostile.varint(2**62), MARK.encode() * 2000,
    HEADER_V1 + hostile.varint(2**31) + MARK.encode(), bytes(100_000),
)  # fmt: skip


def records(seed: int, now: datetime) -> Iterator[bytes | None]:
    """Without end: records of our own schema with anything in them, mutated ones of the door, foreign ones."""
    r = Random(seed)
    while True:
        yield from hostile.values(r, 6)
        body = good_call(r, now)
        record = encode(parse_call_end(body, now=now, horizon_days=HORIZON_DAYS))
        yield record
        for _ in range(4):
            yield HEADER_V1 + mangled_bytes(r, record[len(HEADER_V1) :])
        yield r.choice(_FOREIGN)


def is_counted(value: bytes) -> bool:
    """By the plain path, now: records at the very edge of the horizon are not made here."""
    try:
        decode_counted(value, record_time_ms=int(datetime.now(UTC).timestamp() * 1000), horizon_days=HORIZON_DAYS)
    except Rejected:
        return False
    return True
