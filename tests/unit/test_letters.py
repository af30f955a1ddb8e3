"""Dead letters, as they are folded and sent again."""

from collections.abc import Sequence

from processor.batch import Reject
from processor.dead_letters import ATTEMPT, FIRST_SOURCE, REASON, DeadLetters, Letter
from processor.errors import DeadLetterReason, Rejected
from processor.letters import Found, decoded, folded, found
from tests.factories import FakeRecord

OWN = [("traceparent", b"00-1"), ("twice", b"a"), ("twice", None)]


def set_aside(record: FakeRecord) -> Letter:
    """As the worker writes it."""
    sent: list[Letter] = []

    def publish(letters: Sequence[Letter], timeout_s: float) -> None:
        sent.extend(letters)

    letters = DeadLetters(publish, topic="calls", topic_id="T")
    letters.send([Reject(record, Rejected(DeadLetterReason.INVALID, "why"))], 1)
    return sent[0]


def on_topic(letter: Letter, offset: int) -> Found:
    return found(FakeRecord(offset, payload=letter.value, name=letter.key, head=list(letter.headers)))


def test_a_replayed_record_is_the_one_that_was_set_aside_and_says_how_often() -> None:
    letter = on_topic(set_aside(FakeRecord(7, payload=b"x", head=list(OWN))), 0)
    assert (letter.id, letter.reason, letter.attempt, letter.source) == ("0/0", "invalid", 1, "T/0/7")
    again = letter.again()
    assert (again.key, again.value) == (b"acme/chat", b"x")
    assert list(again.headers) == [*OWN, (ATTEMPT, b"1"), (FIRST_SOURCE, b"T/0/7")]


def test_what_fails_again_is_one_letter_whose_last_attempt_speaks() -> None:
    first = on_topic(set_aside(FakeRecord(7)), 0)
    second = on_topic(set_aside(FakeRecord(90, head=list(first.again().headers))), 1)
    third = on_topic(set_aside(FakeRecord(95, head=list(second.again().headers))), 2)
    assert (third.attempt, third.first_source, third.source) == (3, "T/0/7", "T/0/95")
    assert folded([first, second, third]) == folded([third, second, first]) == [third]


def test_a_letter_that_a_crash_wrote_twice_is_one() -> None:
    letter = set_aside(FakeRecord(7))
    assert len(folded([on_topic(letter, 0), on_topic(letter, 1), on_topic(set_aside(FakeRecord(8)), 2)])) == 2


def test_records_of_others_are_letters_of_their_own() -> None:
    foreign = [found(FakeRecord(at)) for at in (1, 2)]
    assert [(letter.reason, letter.attempt) for letter in folded(foreign)] == [("unknown", 0)] * 2
    assert REASON not in dict(foreign[0].headers)


def test_what_is_no_call_is_read_as_far_as_it_goes() -> None:
    assert decoded(None) == ({}, "there is no value")
    assert decoded(b"no call")[0] == {}
