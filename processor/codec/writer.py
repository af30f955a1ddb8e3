"""A writer of Avro's binary encoding for what has been validated: the mirror of `wire`, compiled from the schema.

fastavro writes the same bytes (tests/property/test_writer.py) and takes twice as long: it looks at the schema anew for
each value. Only what this project's schemas have is here: boolean, long, string, record, map, and unions of null
with one of these; a map is one block, in the order of its keys.
"""

from collections.abc import Callable
from typing import Any, Final

from processor.limits import INT64_MAX, INT64_MIN

Write = Callable[[Any], bytes]

_NULL: Final = b"\x00"
_GIVEN: Final = b"\x02"  # index 1 of a union
_END_OF_MAP: Final = b"\x00"


def compile_writer(schema: Any) -> Write:
    """A writer for `schema`. A record is taken as a mapping with its fields (others are not looked at), a map as a
    dict, times as microseconds.

    The writer raises KeyError, TypeError, AttributeError or OverflowError (beyond 64 bits) for anything else.
    """
    if isinstance(schema, list):
        _null, other = schema
        return _optional(compile_writer(other))
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "record":
        return _record([(field["name"], compile_writer(field["type"])) for field in schema["fields"]])
    if kind == "map":
        return _map(compile_writer(schema["values"]))
    return _PRIMITIVES[kind]


# Of one and two bytes: lengths and counts of tokens, mostly.
_SHORT: Final = (
    *(bytes([zigzag]) for zigzag in range(0x80)),
    *(bytes([zigzag & 0x7F | 0x80, zigzag >> 7]) for zigzag in range(0x80, 1 << 14)),
)
_GROUPS: Final = tuple(bytes([low | 0x80, high | 0x80]) for high in range(0x80) for low in range(0x80))


def _long(value: int) -> bytes:
    if -0x2000 <= value < 0x2000:
        return _SHORT[value * 2 if value >= 0 else -value * 2 - 1]
    if not INT64_MIN <= value <= INT64_MAX:
        raise OverflowError("a long has 64 bits")
    zigzag = (value << 1) ^ (value >> 63)
    found = b""
    while zigzag > 0x3FFF:  # two of Avro's groups of seven bits at a time
        found += _GROUPS[zigzag & 0x3FFF]
        zigzag >>= 14
    return found + _SHORT[zigzag]


def _string(value: str) -> bytes:
    data = value.encode()
    return _long(len(data)) + data


def _boolean(value: bool) -> bytes:
    return b"\x01" if value else b"\x00"


def _optional(write: Write) -> Write:
    def write_optional(value: Any) -> bytes:
        return _NULL if value is None else _GIVEN + write(value)

    return write_optional


def _record(fields: list[tuple[str, Write]]) -> Write:
    def write_record(value: Any) -> bytes:
        return b"".join([write(value[name]) for name, write in fields])

    return write_record


def _map(write: Write) -> Write:
    def write_map(value: dict[str, Any]) -> bytes:
        if not value:
            return _END_OF_MAP
        entries = [_string(key) + write(entry) for key, entry in value.items()]
        return b"".join([_long(len(entries)), *entries, _END_OF_MAP])

    return write_map


_PRIMITIVES: Final[dict[str, Write]] = {"long": _long, "string": _string, "boolean": _boolean}
