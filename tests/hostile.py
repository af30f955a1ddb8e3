"""Bytes that nobody should put on the topic, made by hand: what no encoder of ours would ever write."""

from collections.abc import Callable, Sequence
from random import Random

from processor.calls import USAGE_FIELDS
from processor.codec.framing import CONFLUENT_MARKER, HEADER_V1, MARKER
from processor.limits import MAX_COUNT
from tests.factories import NOON_MS, uuid7

DAY_MS = 86_400_000
EDGES = (0, 1, -1, 2, 63, 64, MAX_COUNT, MAX_COUNT + 1, -MAX_COUNT, -MAX_COUNT - 1, 2**31, 2**62, 2**63 - 1, -(2**63))
TEXTS = (
    "",
    "a",
    "/",
    "a/",
    "/a",
    "a/b",
    "a//b",
    "acme/chat",
    "ä/ü",
    "error",
    "success",
    "m",
    "gpt-4o",
    "x" * 64,
    "x" * 65,
)
LONG_TEXTS = (
    "x" * 255 + "ä",
    "a/" + "b" * 254,
    "a/" + "b" * 255,
    "x" * 256,
    "x" * 257,
    "ä" * 256,
    "x" * 512,
    "x" * 513,
)


def varint(number: int, padding: int = 0) -> bytes:
    """Zigzag; `padding` zero groups more than needed."""
    word = ((number << 1) ^ (number >> 63)) & (2**64 - 1)
    groups = []
    while word >= 0x80:
        groups.append(word & 0x7F)
        word >>= 7
    groups += [word] + [0] * padding
    return bytes([group | 0x80 for group in groups[:-1]] + [groups[-1]])


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return varint(len(data)) + data


def record(r: Random) -> bytes:
    """A framed record of the schema's shape, whose values may break any rule."""
    return HEADER_V1 + b"".join(
        (
            _string(r, ("acme/chat", "e/p")),
            _string(r, (f"call-{r.randrange(50)}", uuid7(r.randrange(50)), _odd_uuid(r))),
            varint(_time_ms(r) * 1000 + r.randrange(1000)),
            _optional(r, lambda: _string(r, ("boom",))),
            _blocks(r, lambda: _string(r, ("gpt-4o", "claude", "")) + _usage(r)),
            _blocks(r, lambda: _string(r, ("success", "error", "running")) + varint(_number(r))),
            _optional(r, lambda: _string(r, ("{}",))),
            r.randbytes(r.randrange(8)),
        )
    )


def values(r: Random, count: int) -> list[bytes | None]:
    """Mostly good records; others broken in every way."""
    return [r.choices(_MAKERS, _WEIGHTS)[0](r) for _ in range(count)]


def _mutated(r: Random) -> bytes:
    data = bytearray(record(r))
    for _ in range(r.randint(1, 3)):
        data[r.randrange(len(data))] = r.choice((0, 1, 2, 0x7F, 0x80, 0xFF, r.randrange(256)))
    return bytes(data)


def _truncated(r: Random) -> bytes:
    data = record(r)
    return data[: r.randrange(len(data))]


def _swollen(r: Random) -> bytes:
    """A length or a count that is larger than the record."""
    at = r.randrange(len(HEADER_V1), 40)
    data = record(r)
    return data[:at] + varint(r.choice((2**63 - 1, 2**62, 2**40, 2**31, 10**6, -1, -(2**63)))) + data[at:]


def _foreign(r: Random) -> bytes:
    return r.choice(
        (b"", b'{"end": {}}', MARKER, MARKER + b"\1" * 8, CONFLUENT_MARKER + b"\0\0\0\7", HEADER_V1, HEADER_V1 + b"\0",
         r.randbytes(r.randrange(60)), HEADER_V1 + r.randbytes(r.randrange(60)), HEADER_V1 + b"\xff" * r.randrange(60))
    )  # fmt: skip


def _tombstone(_: Random) -> None:
    return None


_MAKERS: Sequence[Callable[[Random], bytes | None]] = (record, _mutated, _truncated, _swollen, _foreign, _tombstone)
_WEIGHTS = (30, 6, 3, 3, 2, 1)


def _string(r: Random, usual: Sequence[str]) -> bytes:
    draw = r.random()
    if draw < 0.95:
        return text(r.choice(usual))
    if draw < 0.985:
        return text(r.choice((*TEXTS, *LONG_TEXTS)))
    return text(r.choice((b"\0", b"a/\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"a/\xe2\x82", b"\xf4\x90\x80\x80")))


def _number(r: Random) -> int:
    return r.choice(EDGES) if r.random() < 0.03 else r.randint(-3, 1000)


def _varint(r: Random) -> bytes:
    number = varint(_number(r))
    if r.random() > 0.01:
        return number
    return r.choice(
        (varint(5, padding=r.randint(1, 8)), b"\xff" * 9 + b"\x01", b"\xff" * 9 + b"\x7f", b"\xff" * 11 + b"\0")
    )


def _usage(r: Random) -> bytes:
    counts = b"".join(_optional(r, lambda: _varint(r)) for _ in USAGE_FIELDS)
    return counts + _optional(r, lambda: _string(r, ("{}",)))


def _optional(r: Random, make: Callable[[], bytes]) -> bytes:
    draw = r.random()
    if draw < 0.002:
        return varint(r.choice((2, -1, 3, 2**62)))
    return b"\0" if draw < 0.5 else b"\2" + make()


def _blocks(r: Random, entry: Callable[[], bytes]) -> bytes:
    """A map: blocks of entries, some with their size before them (which nobody looks at), and an end."""
    entries = r.choice((0, 1, 1, 1, 2, 3)) if r.random() < 0.998 else r.choice((63, 64, 65, 255, 256, 257, 300))
    written = b""
    while entries > 0:
        block = r.randint(1, entries)
        body = b"".join(entry() for _ in range(block))
        if r.random() < 0.01:  # a count that cannot be negated: a block without items
            written += varint(-(2**63)) + varint(r.choice(EDGES))
        sized = r.random() < 0.1
        size = len(body) if r.random() < 0.8 else r.choice(EDGES)
        written += (varint(-block) + varint(size) if sized else varint(block)) + body
        entries -= block
    return written + b"\0"


def _time_ms(r: Random) -> int:
    if r.random() < 0.95:
        return NOON_MS - r.randrange(3 * DAY_MS)
    around = r.choice((-35 * DAY_MS, 25 * DAY_MS // 24, 0))
    return r.choice((NOON_MS + around + r.randint(-2, 2), r.choice((0, -(2**52), 2**52))))


def _odd_uuid(r: Random) -> str:
    """Nearly a UUIDv7 of our time: too old, too new, of another version or variant, in capitals, with other hyphens."""
    good = uuid7(r.randrange(9), NOON_MS + r.choice((0, 0, -36 * DAY_MS, 2 * DAY_MS, -40000 * DAY_MS)))
    at = r.randrange(len(good))
    return r.choice((good, good.upper(), good[:at] + r.choice("0123456789abcdefgF-x") + good[at + 1 :], good[1:]))
