"""Records that can never be counted, as the worker sets them aside (letters.py reads them).

Original key, value and headers stay untouched; what happened stands in headers of our own. A crash between the
acknowledgement here and the write of the batch writes a letter twice: readers fold repeats by source position.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from processor.batch import Reject, offset_of, partition_of
from processor.errors import DeadLetterReason, ExitCode, Stop, TooLarge

REASON: Final = "call-processor.reason"
DETAIL: Final = "call-processor.detail"
SOURCE_TOPIC: Final = "call-processor.source-topic"
SOURCE_TOPIC_ID: Final = "call-processor.source-topic-id"
SOURCE_PARTITION: Final = "call-processor.source-partition"
SOURCE_OFFSET: Final = "call-processor.source-offset"
SOURCE_TIME_MS: Final = "call-processor.source-time-ms"
ATTEMPT: Final = "call-processor.attempt"  # 1, and one more for each replay
FIRST_SOURCE: Final = "call-processor.first-source"  # of a replayed record: topic id/partition/offset of the first one
VALUE_SHA256: Final = "call-processor.value-sha256"  # only where the value had to be cut
VALUE_BYTES: Final = "call-processor.value-bytes"

OURS: Final = {
    REASON, DETAIL, SOURCE_TOPIC, SOURCE_TOPIC_ID, SOURCE_PARTITION, SOURCE_OFFSET, SOURCE_TIME_MS, ATTEMPT,
    FIRST_SOURCE,
}  # fmt: skip

KEPT_OF_TOO_LARGE: Final = 64 * 1024

Headers = Sequence[tuple[str, str | bytes | None]]


@dataclass(frozen=True, slots=True)
class Letter:
    key: bytes | None
    value: bytes | None
    headers: Headers


# Publishes all letters and returns when each is acknowledged; `Unavailable` or `TooLarge`.
Publish = Callable[[Sequence[Letter], float], None]


class DeadLetters:
    def __init__(self, publish: Publish, *, topic: str, topic_id: str) -> None:
        self._publish = publish
        self._source = ((SOURCE_TOPIC, topic.encode()), (SOURCE_TOPIC_ID, topic_id.encode()))

    def send(self, rejects: Iterable[Reject], timeout_s: float) -> None:
        """Returns when every letter is acknowledged. `Unavailable`, or `Stop` if not even the rest of one fits."""
        letters = [self._letter(reject) for reject in rejects]
        try:
            self._publish(letters, timeout_s)
        except TooLarge:  # some may be there by now: those are written twice, and folded by readers
            self._publish_small([letter for letter in letters if not _is_large(letter)], timeout_s)
            for letter in filter(_is_large, letters):
                self._publish_large(letter, timeout_s)

    def _publish_large(self, letter: Letter, timeout_s: float) -> None:
        try:
            self._publish([letter], timeout_s)
        except TooLarge:
            self._publish_small([_cut(letter)], timeout_s)

    def _publish_small(self, letters: Sequence[Letter], timeout_s: float) -> None:
        try:
            self._publish(letters, timeout_s)
        except TooLarge:
            raise Stop(
                ExitCode.PROTECT_NUMBERS,
                "the dead-letter topic does not even take what is kept of a record that is too large for it "
                f"({KEPT_OF_TOO_LARGE // 1024} KiB): set its max.message.bytes to 1 MiB more than that of the topic of "
                "calls; until then nothing is skipped, and nothing counted",
            ) from None

    def _letter(self, reject: Reject) -> Letter:
        record = reject.record
        received = record.headers() or ()
        headers = tuple(received.items() if isinstance(received, dict) else received)
        ours = (
            (REASON, reject.rejected.reason.encode()),
            (DETAIL, reject.rejected.detail.encode()),
            *self._source,
            (SOURCE_PARTITION, str(partition_of(record)).encode()),
            (SOURCE_OFFSET, str(offset_of(record)).encode()),
            (SOURCE_TIME_MS, str(record.timestamp()[1]).encode()),
            (ATTEMPT, str(attempts(headers) + 1).encode()),
        )
        return Letter(record.key(), record.value(), (*headers, *ours))


def attempts(headers: Headers) -> int:
    """How often the record was here before; what a foreign producer wrote into our header counts as never."""
    last = next((value for name, value in reversed(headers) if name == ATTEMPT), None)
    return int(last) if last is not None and last.isdigit() and len(last) < 7 else 0


def _is_large(letter: Letter) -> bool:
    headers = sum(len(name) + len(value or "") for name, value in letter.headers)
    return len(letter.key or b"") + len(letter.value or b"") + headers > KEPT_OF_TOO_LARGE


def _cut(letter: Letter) -> Letter:
    """What is kept of a record that is larger than the dead-letter topic takes; it cannot be replayed."""
    value = letter.value or b""
    ours = {name: text for name, text in letter.headers if name in OURS} | {
        REASON: DeadLetterReason.TOO_LARGE.encode(),
        VALUE_SHA256: hashlib.sha256(value).hexdigest().encode(),
        VALUE_BYTES: str(len(value)).encode(),
    }
    key = letter.key[:KEPT_OF_TOO_LARGE] if letter.key is not None else None
    return replace(letter, key=key, value=value[:KEPT_OF_TOO_LARGE], headers=tuple(ours.items()))
