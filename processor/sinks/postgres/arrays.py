"""Arrays as parameters of a statement, made of whole columns: psycopg writes its own value by value."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.postgres import types
from psycopg.pq import Format

from processor.counting.columns import Ints

# PostgreSQL's binary format: dimensions, whether any element is null, their type; then of each dimension length and
# first index; then the elements, each with its length before it.
_HEAD: Final = struct.Struct(">iiIii")
_LENGTH: Final = struct.Struct(">i")
_BIGINT: Final = np.dtype([("length", ">i4"), ("value", ">i8")])


@dataclass(frozen=True, slots=True)
class Texts:
    values: Sequence[str]


@dataclass(frozen=True, slots=True)
class Bigints:
    values: Ints


class _TextsDumper(Dumper):
    format = Format.BINARY
    oid = types["text"].array_oid

    def dump(self, obj: Texts) -> bytes:
        element = {}
        for value in set(obj.values):  # most occur many times
            encoded = value.encode()
            element[value] = _LENGTH.pack(len(encoded)) + encoded
        return _head("text", len(obj.values)) + b"".join([element[value] for value in obj.values])


class _BigintsDumper(Dumper):
    format = Format.BINARY
    oid = types["bigint"].array_oid

    def dump(self, obj: Bigints) -> bytes:
        elements = np.empty(len(obj.values), _BIGINT)
        elements["length"] = _BIGINT["value"].itemsize
        elements["value"] = obj.values
        return _head("bigint", len(elements)) + elements.tobytes()


def _head(kind: str, length: int) -> bytes:
    return _HEAD.pack(1, 0, types[kind].oid, length, 1)


def register(adapters: AdaptersMap) -> None:
    adapters.register_dumper(Texts, _TextsDumper)
    adapters.register_dumper(Bigints, _BigintsDumper)
