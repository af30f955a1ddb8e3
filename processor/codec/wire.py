"""A reader of Avro's binary encoding for bytes that anybody may have written.

Not fastavro's: that one takes integers of any length and lets them wrap (measured), collects as many map entries as the
bytes hold, and so cannot be a law which a second reader has to agree with. This one is exact:

- an integer has at most 10 bytes; bits beyond 64 fall away, as in Avro's own readers,
- a length, or a count of a block's items, may not exceed the bytes that are left (an item has at least one),
- a negative count is followed by the block's size in bytes, which is not looked at; the count -2^63, whose
  negation in 64 bits is itself, is a block without items,
- a union's index is 0 or 1, a boolean 0 or 1, a string valid UTF-8,
- of an array, MAX_KEPT items are kept; the others are read and forgotten.
"""

from collections.abc import Callable
from typing import Any, Final

MAX_KEPT: Final = 257  # one more than the largest limit on the entries of a map
MAX_VARINT_BITS: Final = 70
NO_POSITIVE: Final = -(2**63)

Read = Callable[[bytes, int], tuple[Any, int]]  # (bytes, where to start) -> (value, where it ends)


class Malformed(Exception):
    """These bytes are no record of the schema. The message names what is wrong, never what is in them."""


def compile_reader(schema: Any) -> Read:
    """A reader for `schema`: boolean, long, string, record, array, and unions of null with one of these.

    A record is read as the tuple of its fields, an array as a list. The reader raises Malformed or IndexError (the
    bytes end too early), nothing else.
    """
    if isinstance(schema, list):
        _null, other = schema
        return _optional(compile_reader(other))
    if isinstance(schema, dict) and schema["type"] == "record":
        return _record(tuple(compile_reader(field["type"]) for field in schema["fields"]))
    if isinstance(schema, dict) and schema["type"] == "array":
        return _array(compile_reader(schema["items"]))
    return _PRIMITIVES[schema["type"] if isinstance(schema, dict) else schema]


def _long(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    at += 1
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), at
    value = byte & 0x7F
    for shift in range(7, MAX_VARINT_BITS, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            value &= 0xFFFF_FFFF_FFFF_FFFF
            return (value >> 1) ^ -(value & 1), at
    raise Malformed("an integer has more than 10 bytes")


def _string(data: bytes, at: int) -> tuple[str, int]:
    length, at = _long(data, at)
    end = at + length
    if length < 0 or end > len(data):
        raise Malformed("a text is longer than the record")
    try:
        return data[at:end].decode(), end
    except UnicodeDecodeError:
        raise Malformed("a text is not valid UTF-8") from None


def _boolean(data: bytes, at: int) -> tuple[bool, int]:
    byte = data[at]
    if byte > 1:
        raise Malformed("a boolean is neither 0 nor 1")
    return byte == 1, at + 1


def _optional(read: Read) -> Read:
    def read_optional(data: bytes, at: int) -> tuple[Any, int]:
        branch, at = _long(data, at)
        if branch == 0:
            return None, at
        if branch == 1:
            return read(data, at)
        raise Malformed("a union has an unknown branch")

    return read_optional


def _record(reads: tuple[Read, ...]) -> Read:
    def read_record(data: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        values = []
        for read in reads:
            value, at = read(data, at)
            values.append(value)
        return tuple(values), at

    return read_record


def _array(read: Read) -> Read:
    def read_array(data: bytes, at: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        while True:
            count, at = _long(data, at)
            if count == 0:
                return items, at
            if count < 0:
                count = -count if count != NO_POSITIVE else 0
                _, at = _long(data, at)
            if count > len(data) - at:
                raise Malformed("a block has more items than the record has bytes")
            for _ in range(count):
                item, at = read(data, at)
                if len(items) < MAX_KEPT:
                    items.append(item)

    return read_array


_PRIMITIVES: Final[dict[str, Read]] = {"long": _long, "string": _string, "boolean": _boolean}
