"""All that must hold when everything is over, each law by its name."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import psycopg
from confluent_kafka import Consumer, Message, TopicPartition

from processor import dead_letters
from processor.deadline import Deadline
from processor.sample import stored
from processor.sinks.postgres.call_keys import call_key
from tests.chaos.oracle import Expectation, Log, Place
from tests.chaos.posts import Post
from tests.stack import Installation

READ_WITHIN_S: Final = 300
SHOWN: Final = 5  # problems of one kind


class Law(StrEnum):
    ACKNOWLEDGED = "every acknowledged call is on the log, and nothing else than what was posted"
    TOTALS = "the totals are those of the calls on the log, each counted once"
    CONSERVATION = "every offset of every partition has one outcome"
    DEAD_LETTERS = "what can never be counted is a dead letter, with its bytes"
    PROGRESS = "every partition is counted to its end"
    TAKEOVER = "what a dead or frozen worker leaves is taken over in time"
    EXITS = "no process ends by itself, save where it must"
    MEMORY = "memory is bounded"
    LEFTOVERS = "no process is left"


@dataclass(frozen=True, slots=True)
class Problem:
    law: Law
    what: str

    def __str__(self) -> str:
        return f"{self.law}: {self.what}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    partition: int
    first_offset: int
    next_offset: int
    records_read: int
    counted: int
    duplicates: int
    conflicts: int
    dead_lettered: int
    skipped: int
    gap_offsets: int

    @property
    def accounted(self) -> int:
        outcomes = self.counted + self.duplicates + self.dead_lettered + self.skipped
        return self.first_offset + outcomes + self.gap_offsets


def checkpoints(installation: Installation) -> list[Checkpoint]:
    rows = installation.rows(
        "SELECT partition, first_offset, next_offset, records_read, counted, duplicates, conflicts, dead_lettered,"
        " skipped, gap_offsets FROM checkpoints ORDER BY partition"
    )
    return [Checkpoint(*row) for row in rows]


def totals(installation: Installation, expectation: Expectation) -> Iterator[Problem]:
    """Row by row, all three tables."""
    for line in stored.differences(stored.read(installation.dsn), expectation.tables):
        yield Problem(Law.TOTALS, line)


def conservation(
    rows: list[Checkpoint], ends: Mapping[int, int], log: Log, expectation: Expectation
) -> Iterator[Problem]:
    """Partition by partition against the log itself; calls and repeats of them all together, as repeats may lie on
    another partition than what they repeat."""
    records, foreign = log.records(), Counter(partition for partition, _ in log.foreign)
    if (have := {row.partition for row in rows}) != ends.keys():
        yield Problem(Law.CONSERVATION, f"partitions {sorted(ends)} have rows {sorted(have)}")
    for row in rows:
        got = (row.first_offset, row.next_offset, row.records_read, row.dead_lettered, row.skipped, row.gap_offsets)
        end = ends.get(row.partition, 0)
        read = records[row.partition]
        must = (0, end, read, foreign[row.partition], log.tombstones[row.partition], end - read)
        if got != must:
            yield Problem(Law.CONSERVATION, f"partition {row.partition} has {got}, must have {must}")
        if row.counted + row.duplicates != read - foreign[row.partition] - log.tombstones[row.partition]:
            yield Problem(Law.CONSERVATION, f"partition {row.partition}: calls and repeats are not what is left")
    if (counted := sum(row.counted for row in rows)) != expectation.calls:
        yield Problem(Law.CONSERVATION, f"{counted} calls are counted, {expectation.calls} are on the log")


def letters(installation: Installation, log: Log) -> Iterator[Problem]:
    """Each record that is no call has a letter with its bytes; no other record has one."""
    found: dict[Place, bytes | None] = {}
    for letter in read_topic(installation, installation.dead_letter_topic):
        headers: dict[str, Any] = dict(letter.headers() or ())
        place = int(headers[dead_letters.SOURCE_PARTITION]), int(headers[dead_letters.SOURCE_OFFSET])
        found[place] = letter.value()
    for place, value in log.foreign.items():
        if place not in found:
            yield Problem(Law.DEAD_LETTERS, f"the record at {place} can never be counted and has no letter")
        elif found[place] != value:
            yield Problem(Law.DEAD_LETTERS, f"the letter of the record at {place} holds other bytes")
    for place in found.keys() - log.foreign.keys():
        yield Problem(Law.DEAD_LETTERS, f"the record at {place} is a call, and has a letter")


def winners(installation: Installation, asked: Mapping[int, Post]) -> dict[int, Place]:
    """By call, the record that its dedupe key names."""
    ((seed,),) = installation.rows("SELECT hash_seed FROM installation")
    found = {}
    with psycopg.connect(installation.dsn) as connection:
        for call, post in asked.items():
            key, day = call_key(seed, post.end["project_id"], post.end["id"])
            table = "seen_calls_untimed" if day is None else "seen_calls"
            row = connection.execute(f"SELECT partition, record_offset FROM {table} WHERE call_key = %s", [key.hex()])
            if (place := row.fetchone()) is not None:
                found[call] = place
    return found


def read_log(installation: Installation) -> Log:
    log = Log()
    for record in read_topic(installation, installation.topic):
        partition, offset = record.partition(), record.offset()
        assert partition is not None
        assert offset is not None
        log.read(partition, offset, record.value())
    return log


def read_topic(installation: Installation, topic: str) -> Iterator[Message]:
    """Every record that is there now."""
    ends = installation.end_offsets(topic)
    left = {partition for partition, end in ends.items() if end}
    consumer = Consumer(
        {
            "bootstrap.servers": installation.servers.bootstrap_servers, "group.id": "unused",
            "enable.partition.eof": True, "auto.offset.reset": "error",
        }
    )  # fmt: skip
    deadline = Deadline.after(READ_WITHIN_S)
    with closing(consumer):
        consumer.assign([TopicPartition(topic, partition, 0) for partition in left])
        while left:
            assert not deadline.passed(), f"partitions {sorted(left)} of {topic} could not be read to their ends"
            for record in consumer.consume(10_000, 0.1):
                if record.error() is None:
                    yield record
                else:
                    left.discard(record.partition() or 0)


def some(problems: Sequence[Problem]) -> list[Problem]:
    """The first of each law, and how many more there are."""
    found: list[Problem] = []
    for law in Law:
        of = [problem for problem in problems if problem.law is law]
        found += of[:SHOWN]
        if len(of) > SHOWN:
            found.append(Problem(law, f"and {len(of) - SHOWN} more"))
    return found
