"""Reading gzip, a step at a time: whatever a body swells to, no more than its limit is ever held."""

import zlib
from collections.abc import Callable
from typing import Final

from processor.errors import ErrorDetail, InvalidCall, TooLarge
from processor.refusals import BODY

MIB: Final = 2**20
STEP_BYTES: Final = 64 * 1024
MAX_RATIO: Final = 200  # text of people or models has less than 20, a bomb has 1000
SMALL_BYTES: Final = MIB  # may be the result of any ratio
MAX_MEMBERS: Final = 1000  # each costs a new decompressor
GZIP: Final = 31  # zlib's window of 2^15, within gzip's header and trailer


def inflate(compressed: bytes, limit_bytes: int, take: Callable[[int], None]) -> bytes:
    """The content of one or several gzip members that follow each other (RFC 1952, 2.2).

    `take` is told of each step's bytes before the next one, and may raise. `TooLarge` names the limit that was met: of
    the door, or of what so few bytes may become. `InvalidCall`: this is no gzip, or not all of it.
    """
    by_ratio = max(SMALL_BYTES, MAX_RATIO * len(compressed))
    what = "the inflated body"
    if by_ratio < limit_bytes:
        what, limit_bytes = f"the body, inflated to more than {MAX_RATIO} times its size,", by_ratio
    pieces: list[bytes] = []
    size, members, member, ended = 0, 1, zlib.decompressobj(GZIP), False
    for at in range(0, len(compressed), STEP_BYTES):
        rest = compressed[at : at + STEP_BYTES]
        while rest:
            if ended:
                members, member, ended = members + 1, zlib.decompressobj(GZIP), False
                if members > MAX_MEMBERS:
                    raise _no_gzip(f"the body must have at most {MAX_MEMBERS} gzip members")
            piece = _step(member, rest)
            size += len(piece)
            if size > limit_bytes:
                raise TooLarge(what, limit_bytes)
            take(len(piece))
            pieces.append(piece)
            ended = member.eof
            rest = member.unused_data if ended else member.unconsumed_tail
    if not ended:
        raise _no_gzip("the body is not complete gzip, as its content encoding says")
    return b"".join(pieces)


def _step(member: "zlib._Decompress", data: bytes) -> bytes:
    try:
        return member.decompress(data, STEP_BYTES)
    except zlib.error:
        raise _no_gzip("the body is not gzip, as its content encoding says") from None


def _no_gzip(message: str) -> InvalidCall:
    return InvalidCall([ErrorDetail(BODY, message, "gzip_invalid")])
