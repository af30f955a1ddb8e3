"""Dead letters as an operator looks at them: which records are set aside, why, and which can be sent again.

A record that was sent again and set aside again is one letter: the header `call-processor.first-source` keeps where it
stood first, and the attempt that came last speaks for it. A letter that a crash wrote twice is one as well.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from processor.batch import Record, offset_of, partition_of
from processor.codec.framing import unframe
from processor.codec.rows import decode
from processor.codec.schema import CUT_SCHEMA
from processor.codec.wire import Malformed, compile_reader
from processor.dead_letters import (
    ATTEMPT,
    DETAIL,
    FIRST_SOURCE,
    OURS,
    REASON,
    SOURCE_OFFSET,
    SOURCE_PARTITION,
    SOURCE_TIME_MS,
    SOURCE_TOPIC,
    SOURCE_TOPIC_ID,
    VALUE_SHA256,
    Headers,
    Letter,
    attempts,
)
from processor.errors import DeadLetterReason, Rejected

UNKNOWN: Final = "unknown"  # a record of others, without our headers


@dataclass(frozen=True, slots=True)
class Found:
    """One letter on the dead-letter topic."""

    partition: int  # of the dead-letter topic
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def id(self) -> str:
        return f"{self.partition}/{self.offset}"

    @property
    def reason(self) -> str:
        return self.said(REASON) or UNKNOWN

    @property
    def detail(self) -> str:
        return self.said(DETAIL) or ""

    @property
    def attempt(self) -> int:
        return attempts(self.headers)

    @property
    def source(self) -> str:
        """Topic id, partition and offset where the record stood."""
        return "/".join(self.said(name) or "?" for name in (SOURCE_TOPIC_ID, SOURCE_PARTITION, SOURCE_OFFSET))

    @property
    def place(self) -> str:
        """As `source`, for people: with the topic's name."""
        return "/".join(self.said(name) or "?" for name in (SOURCE_TOPIC, SOURCE_PARTITION, SOURCE_OFFSET))

    @property
    def first_source(self) -> str:
        return self.said(FIRST_SOURCE) or self.source

    @property
    def time_ms(self) -> int:
        """When the record came to the topic of calls; 0 if nobody says."""
        text = self.said(SOURCE_TIME_MS) or ""
        return int(text) if text.isascii() and text.isdigit() and len(text) < 15 else 0

    @property
    def is_cut(self) -> bool:
        """Only the beginning of its value was kept."""
        return self.reason == DeadLetterReason.TOO_LARGE and self.said(VALUE_SHA256) is not None

    def said(self, name: str) -> str | None:
        """The last header of this name: ours come after those of the record."""
        value = next((value for header, value in reversed(self.headers) if header == name), None)
        return value.decode(errors="replace") if isinstance(value, bytes) else value

    def again(self) -> Letter:
        """The record as it was, and how often it was tried."""
        own = tuple((name, value) for name, value in self.headers if name not in OURS)
        ours = ((ATTEMPT, str(self.attempt).encode()), (FIRST_SOURCE, self.first_source.encode()))
        return Letter(self.key, self.value, (*own, *ours))


def found(record: Record) -> Found:
    received = record.headers() or ()
    headers = tuple(received.items() if isinstance(received, dict) else received)
    return Found(partition_of(record), offset_of(record), record.key(), record.value(), headers)


def folded(letters: Iterable[Found]) -> list[Found]:
    """The last attempt of each record, the oldest record first."""
    last: dict[str, Found] = {}
    for letter in letters:
        of = letter.id if letter.reason == UNKNOWN else letter.first_source
        if of not in last or letter.attempt >= last[of].attempt:
            last[of] = letter
    return sorted(last.values(), key=lambda letter: (letter.time_ms, letter.partition, letter.offset))


def decoded(value: bytes | None) -> tuple[Mapping[str, object], str | None]:
    """The fields of a call, as far as they can be read, and what stops there (None: nothing)."""
    if value is None:
        return {}, "there is no value"
    try:
        return decode(value).model_dump(mode="json", exclude_unset=True)["end"], None
    except Rejected as rejected:
        return _fields(value), str(rejected)


def _fields(value: bytes) -> dict[str, object]:
    """One field after the other, until one cannot be read."""
    fields: dict[str, object] = {}
    try:
        body, at = unframe(value), 0
        for field in CUT_SCHEMA["fields"][0]["type"]["fields"]:
            fields[field["name"]], at = compile_reader(field["type"])(body, at)
    except (Rejected, Malformed, IndexError):
        pass
    return fields
