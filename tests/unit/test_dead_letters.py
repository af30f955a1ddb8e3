"""Dead letters without a broker: what they say, and that one always fits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import pytest

from processor import dead_letters
from processor.batch import Headers, Reject
from processor.dead_letters import KEPT_OF_TOO_LARGE, DeadLetters, Letter
from processor.errors import DeadLetterReason, ExitCode, Rejected, Stop, TooLarge
from tests.factories import NOON_MS, FakeRecord

KIB = 1024


@dataclass(slots=True)
class Topic:
    """Takes records up to `limit` bytes; a batch with a larger one is refused, of which some may be there."""

    limit: int = 1 << 20
    letters: list[Letter] = field(default_factory=list)

    def publish(self, letters: Sequence[Letter], timeout_s: float) -> None:
        for letter in letters:
            headers = sum(len(name) + len(value or "") for name, value in letter.headers)
            if len(letter.key or b"") + len(letter.value or b"") + headers > self.limit:
                raise TooLarge("the record", self.limit)
            self.letters.append(letter)

    def last(self) -> dict[str, str | bytes | None]:
        """The headers of the last letter; of a name that stands twice, the later."""
        return dict(self.letters[-1].headers)


def send(topic: Topic, *records: FakeRecord) -> None:
    rejects = [Reject(record, Rejected(DeadLetterReason.INVALID, "why")) for record in records]
    DeadLetters(topic.publish, topic="calls", topic_id="id").send(rejects, timeout_s=1)


def test_a_letter_is_the_record_untouched_and_what_happened_to_it() -> None:
    topic = Topic()
    headers: list[tuple[str, str | bytes | None]] = [("a", b"\xff"), ("a", None), ("a", b"")]
    send(topic, FakeRecord(7, of=3, payload=b"\x00\xff", name=None, head=headers))
    [letter] = topic.letters
    assert (letter.key, letter.value, list(letter.headers[:3])) == (None, b"\x00\xff", headers)
    assert dict(letter.headers[3:]) == {
        dead_letters.REASON: b"invalid",
        dead_letters.DETAIL: b"why",
        dead_letters.SOURCE_TOPIC: b"calls",
        dead_letters.SOURCE_TOPIC_ID: b"id",
        dead_letters.SOURCE_PARTITION: b"3",
        dead_letters.SOURCE_OFFSET: b"7",
        dead_letters.SOURCE_TIME_MS: str(NOON_MS).encode(),
        dead_letters.ATTEMPT: b"1",
    }


@pytest.mark.parametrize(
    ("headers", "attempt"),
    [
        ([(dead_letters.ATTEMPT, b"1")], b"2"),
        ([(dead_letters.ATTEMPT, b"4"), (dead_letters.ATTEMPT, b"2")], b"3"),
        ([(dead_letters.ATTEMPT, b"many")], b"1"),
        ([(dead_letters.ATTEMPT, b"9" * 100)], b"1"),
        ([(dead_letters.ATTEMPT, None)], b"1"),
        ({dead_letters.ATTEMPT: "2"}, b"3"),
        (None, b"1"),
    ],
)
def test_a_replayed_record_that_comes_back_is_one_attempt_further(headers: Headers, attempt: bytes) -> None:
    topic = Topic()
    send(topic, FakeRecord(0, head=headers))
    assert topic.last()[dead_letters.ATTEMPT] == attempt


def test_of_a_record_that_does_not_fit_the_first_64_kib_are_kept_and_all_others_are_untouched() -> None:
    topic = Topic()
    large = bytes(range(256)) * 8 * KIB  # 2 MiB
    fits = b"x" * 512 * KIB
    send(topic, FakeRecord(0, payload=b"small"), FakeRecord(1, payload=large), FakeRecord(2, payload=fits))
    kept = {dict(letter.headers)[dead_letters.SOURCE_OFFSET]: letter for letter in topic.letters}
    assert (kept[b"0"].value, kept[b"2"].value) == (b"small", fits)
    assert kept[b"1"].value == large[:KEPT_OF_TOO_LARGE]
    headers = dict(kept[b"1"].headers)
    assert headers[dead_letters.REASON] == b"too_large"
    assert headers[dead_letters.DETAIL] == b"why"
    assert headers[dead_letters.VALUE_SHA256] == sha256(large).hexdigest().encode()
    assert headers[dead_letters.VALUE_BYTES] == b"2097152"
    assert headers[dead_letters.SOURCE_TOPIC] == b"calls"


@pytest.mark.parametrize("name", ["theirs", dead_letters.DETAIL, "call-processor.theirs"])
def test_headers_that_do_not_fit_are_not_kept(name: str) -> None:
    topic = Topic()
    send(topic, FakeRecord(0, payload=b"small", head=[(name, b"x" * (2 << 20))]))
    [letter] = topic.letters
    assert (letter.value, topic.last()[dead_letters.REASON]) == (b"small", b"too_large")


def test_a_key_that_does_not_fit_is_cut_too() -> None:
    topic = Topic()
    send(topic, FakeRecord(0, payload=None, name=b"k" * (2 << 20)))
    assert (topic.letters[0].key, topic.letters[0].value) == (b"k" * KEPT_OF_TOO_LARGE, b"")


@pytest.mark.parametrize("size", [10, 2 << 20])
def test_a_topic_that_takes_not_even_that_stops_the_worker(size: int) -> None:
    with pytest.raises(Stop, match=r"set its max\.message\.bytes") as stopped:
        send(Topic(limit=100), FakeRecord(0, payload=bytes(size)))
    assert stopped.value.exit_code is ExitCode.PROTECT_NUMBERS
