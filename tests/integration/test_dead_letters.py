"""Records that can never be counted, on a real broker: a letter always fits, or nothing is skipped."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Final

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AclOperation, ResourceType  # type: ignore[attr-defined]

from processor import dead_letters
from processor.dead_letters import KEPT_OF_TOO_LARGE
from processor.kafka.topics import MIB
from tests.group import metric
from tests.guarded import Guarded
from tests.kafka_admin import alter, delete
from tests.laws import assert_nothing_is_lost, assert_totals_equal
from tests.parallel import beside_others
from tests.produce import Calls
from tests.stack import Installation, Process, Servers, installed, wait_until

pytestmark = pytest.mark.stack

Headers = list[tuple[str, str | bytes | None]]
BAD: Final = b"no call"
NOISE: Final = Random(1).randbytes(MIB)


@dataclass(frozen=True, slots=True)
class Sent:
    value: bytes
    compression: str = "none"
    headers: tuple[tuple[str, bytes | None], ...] = (("traceparent", b"00-1-2-00"), ("twice", b"\xff"), ("twice", None))


SENT: Final = {
    "small": Sent(BAD),
    "empty": Sent(b"", headers=()),
    "replayed": Sent(BAD, headers=((dead_letters.REASON, b"invalid"), (dead_letters.ATTEMPT, b"1"))),
    "compressible, larger than any topic": Sent(b'{"end": {"project_id": "a/b"}}' * 350_000, "lz4"),
    "incompressible, as large as the topic allows": Sent(Random(2).randbytes(8 * MIB - 512)),
    # repeats that are further apart than lz4 looks: larger on the dead-letter topic than on its own
    "larger than the dead-letter topic": Sent(NOISE * 15, "zstd"),
}


@dataclass(frozen=True, slots=True)
class Letters:
    source: Mapping[str, Message]  # by key
    letters: Mapping[str, Message]


@pytest.fixture(scope="module")
def posted(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Letters]:
    with installed(servers, tmp_path_factory.mktemp("letters")) as installation:
        calls = Calls(installation, seed=1)
        calls.produce(100)
        for name, sent in SENT.items():
            produce(installation, name, sent)
        calls.produce(100)
        installation.start_worker()
        installation.wait_until_counted()
        assert_totals_equal(installation, calls.expected())
        assert_nothing_is_lost(installation)
        yield Letters(
            {name: message for message in installation.records(installation.topic) if (name := key(message)) in SENT},
            {key(message): message for message in installation.records(installation.dead_letter_topic)},
        )


def produce(installation: Installation, name: str, sent: Sent) -> None:
    producer = Producer(
        {
            "bootstrap.servers": installation.servers.bootstrap_servers,
            "compression.type": sent.compression,
            "message.max.bytes": 100_000_000,
        }
    )
    failures = []
    producer.produce(
        installation.topic,
        sent.value,
        key=name.encode(),
        headers=list(sent.headers),
        on_delivery=lambda error, _: failures.append(error),
    )
    assert producer.flush(20) == 0
    assert failures == [None]


def key(message: Message) -> str:
    return (message.key() or b"").decode(errors="replace")


def headers_of(message: Message) -> Headers:
    headers = message.headers() or []
    return list(headers.items()) if isinstance(headers, dict) else headers


@pytest.mark.parametrize("name", SENT)
def test_a_letter_says_where_its_record_stands_and_when_it_came(posted: Letters, name: str) -> None:
    source, said = posted.source[name], dict(headers_of(posted.letters[name]))
    assert said[dead_letters.SOURCE_TOPIC] == str(source.topic()).encode()
    assert said[dead_letters.SOURCE_PARTITION] == str(source.partition()).encode()
    assert said[dead_letters.SOURCE_OFFSET] == str(source.offset()).encode()
    assert said[dead_letters.SOURCE_TIME_MS] == str(source.timestamp()[1]).encode()
    assert said[dead_letters.ATTEMPT] == (b"2" if name == "replayed" else b"1")


@pytest.mark.parametrize("name", [name for name in SENT if name != "larger than the dead-letter topic"])
def test_a_record_of_any_size_that_its_topic_takes_becomes_a_letter_untouched(posted: Letters, name: str) -> None:
    sent, letter = SENT[name], posted.letters[name]
    assert letter.value() == sent.value
    assert headers_of(letter)[: len(sent.headers)] == list(sent.headers)
    said = headers_of(letter)[len(sent.headers) :]
    assert [name for name, _ in said].count(dead_letters.REASON) == 1
    assert dict(said)[dead_letters.REASON] in {b"undecodable", b"unknown_schema"}


def test_of_a_record_that_the_dead_letter_topic_cannot_take_the_beginning_is_kept(posted: Letters) -> None:
    letter, value = posted.letters["larger than the dead-letter topic"], NOISE * 15
    assert letter.value() == value[:KEPT_OF_TOO_LARGE]
    said = dict(headers_of(letter))
    assert said[dead_letters.REASON] == b"too_large"
    assert said[dead_letters.VALUE_SHA256] == sha256(value).hexdigest().encode()
    assert said[dead_letters.VALUE_BYTES] == str(len(value)).encode()


# --- where a letter cannot go


def limit_letters(installation: Installation, size: int) -> None:
    alter(installation.servers.bootstrap_servers, installation.dead_letter_topic, {"max.message.bytes": str(size)})


def started(installation: Installation, calls: Calls, **settings: str) -> Process:
    """A worker that has counted what is there."""
    calls.produce(50)
    worker = installation.start_worker(**settings)
    installation.wait_until_counted()
    return worker


def bad_offset(installation: Installation) -> tuple[int, int]:
    """Put a bad record on the topic; its partition and offset."""
    installation.publish([BAD])
    [bad] = [record for record in installation.records(installation.topic) if record.value() == BAD]
    assert bad.partition() is not None
    assert bad.offset() is not None
    return bad.partition() or 0, bad.offset() or 0


def assert_all_is_counted(installation: Installation, calls: Calls, letters: int = 1) -> None:
    counters = installation.wait_until_counted()
    assert_totals_equal(installation, calls.expected())
    assert_nothing_is_lost(installation)
    assert counters.dead_lettered == letters
    kept = [record.value() for record in installation.records(installation.dead_letter_topic)]
    assert set(kept) == {BAD}, "each at least once: a crash may repeat one"


@beside_others()
def test_a_dead_letter_topic_that_takes_nothing_stops_the_worker_and_nothing_is_skipped(
    installation: Installation,
) -> None:
    calls = Calls(installation, seed=2)
    worker = started(installation, calls)
    limit_letters(installation, 100)
    partition, offset = bad_offset(installation)
    calls.produce(50)
    code, sentence = worker.ended()
    assert (code, "set its max.message.bytes" in sentence) == (4, True)
    assert installation.next_offsets()[partition] <= offset
    worker.launch()
    code, sentence = worker.ended()
    assert (code, f"set max.message.bytes={9 * MIB}" in sentence) == (4, True)
    limit_letters(installation, 9 * MIB)
    worker.launch()
    assert_all_is_counted(installation, calls)


@beside_others()
def test_a_dead_letter_topic_that_is_deleted_makes_the_worker_wait_and_nothing_is_skipped(
    installation: Installation,
) -> None:
    calls = Calls(installation, seed=3)
    worker = started(installation, calls)
    delete(installation.servers.bootstrap_servers, installation.dead_letter_topic)
    partition, offset = bad_offset(installation)
    calls.produce(50)
    wait_until(lambda: metric(worker, "unavailable_total") >= 1, within_s=15, what="a letter has failed")
    assert worker.poll() is None
    assert installation.next_offsets()[partition] <= offset
    installation.create_topics()
    assert_all_is_counted(installation, calls)


def test_a_dead_letter_topic_that_we_may_not_write_to_makes_the_worker_wait_and_nothing_is_skipped(
    guarded: Guarded, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("guarded")
    with installed(Servers(guarded.bootstrap_servers, servers.dsn), folder) as installation:
        topics = (installation.topic, installation.dead_letter_topic)
        for topic in topics:
            guarded.allow(ResourceType.TOPIC, topic, [AclOperation.READ, AclOperation.DESCRIBE_CONFIGS])
        guarded.allow(ResourceType.GROUP, installation.name, [AclOperation.READ])
        calls = Calls(installation, seed=4)
        worker = started(installation, calls, **guarded.properties(folder))
        partition, offset = bad_offset(installation)
        calls.produce(50)
        wait_until(lambda: metric(worker, "unavailable_total") >= 1, within_s=15, what="a letter has failed")
        assert worker.poll() is None
        assert installation.next_offsets()[partition] <= offset
        guarded.allow(ResourceType.TOPIC, installation.dead_letter_topic, [AclOperation.WRITE])
        assert_all_is_counted(installation, calls)


# --- the breaker


@beside_others()
def test_the_breaker_stops_the_worker_before_a_letter_is_written_and_until_somebody_resumes(
    installation: Installation,
) -> None:
    calls = Calls(installation, seed=5)
    worker = started(installation, calls, WORKER__BREAKER_RUN="10")
    before = installation.next_offsets()
    publish_to(installation, 2, [BAD] * 12)
    code, sentence = worker.ended()
    assert code == 4
    assert f"partition 2: the breaker tripped at offset {before[2] + 9} " in sentence
    assert "run `call-processor resume`" in sentence
    worker.launch()
    assert worker.ended() == (4, sentence)
    assert installation.records(installation.dead_letter_topic) == []
    assert installation.next_offsets() == before

    calls.produce(50)
    assert "partitions 2;" in installation.output("resume")
    worker.launch()
    assert_all_is_counted(installation, calls, letters=12)


def publish_to(installation: Installation, partition: int, values: Sequence[bytes | None]) -> None:
    """All in one batch, so that they are read together."""
    producer = Producer({"bootstrap.servers": installation.servers.bootstrap_servers, "linger.ms": 100})
    for value in values:
        producer.produce(installation.topic, value, partition=partition)
    assert producer.flush(10) == 0


# --- a record that cannot even be read


@beside_others()
def test_a_record_that_the_client_cannot_unpack_holds_its_partition_and_is_named(installation: Installation) -> None:
    calls = Calls(installation, seed=7)
    worker = started(installation, calls)
    before = installation.next_offsets()
    producer = Producer(
        {
            "bootstrap.servers": installation.servers.bootstrap_servers,
            "compression.type": "zstd",
            "message.max.bytes": 200_000_000,
        }
    )
    producer.produce(installation.topic, bytes(120_000_000), partition=0)
    assert producer.flush(20) == 0
    wait_until(lambda: "receive.message.max.bytes" in worker.log.read_text(), within_s=10, what="it is named")
    calls.produce(50)
    ends = installation.end_offsets(installation.topic)
    wait_until(
        lambda: installation.next_offsets() == ends | {0: before[0]}, within_s=10, what="the other partitions go on"
    )
    worker.stop()
    file = installation.folder / "room.properties"
    file.write_text("receive.message.max.bytes=500000000\n")
    installation.start_worker(KAFKA__PROPERTIES_FILE=str(file))
    counters = installation.wait_until_counted()
    assert counters.dead_lettered == 1
    assert_totals_equal(installation, calls.expected())
    assert_nothing_is_lost(installation)
