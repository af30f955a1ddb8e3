"""What must be stored, told from what the clients know and from the log; never from what is judged.

A client knows one of three things of a post. *Acknowledged*: an attempt got 200. Then the broker had the record, so it
is on the log (if it is not, that is a loss), and its call is counted exactly once. *Refused*: dropped after a 4xx; then
no record of it may exist. *Unknown*: attempts ended with 503, a broken connection or nothing. The service made no
promise: a record that was given up may be on the log all the same, or arrive later. The client cannot tell, so the
oracle asks the log, when nobody can write to it any more: each record carries the number of its post. On the log: the
call is counted once, as every call whose record is there. Not on the log: it must not be counted.

So the rule for totals is one: a call is counted once if any of its records is on the log, and not otherwise. Asking
the log does not excuse the door, since acknowledged posts must be there; it does not excuse the workers, since they
must count all that is there; and what nobody posted is not accepted there.

A repeat with other content is the one case in which it matters which record is counted. On one partition the first on
the log is. If partitions were added in between, the records of a call may lie on two, and none of them is the first:
then any may be counted, and the dedupe key names the one that was; it must be one of this call's records, and the
totals must be those with its content.
"""

import zlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final

import fastavro

from processor.codec.framing import HEADER_V1
from processor.codec.schema import SCHEMA
from processor.sample.oracle import TABLES, Tables, added, adds_of
from tests.chaos.clients import Fate, Outcomes
from tests.chaos.posts import Post

Place = tuple[int, int]  # partition, offset
NOT_A_POST: Final = -1
PARSED: Final = fastavro.parse_schema(SCHEMA)


@dataclass(slots=True)
class Log:
    """Every record of the topic of calls, in columns. `numbers`: of the post, by record."""

    numbers: "array[int]" = field(default_factory=lambda: array("q"))
    partitions: "array[int]" = field(default_factory=lambda: array("q"))
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    identities: "array[int]" = field(default_factory=lambda: array("Q"))  # checksums
    foreign: dict[Place, bytes] = field(default_factory=dict)  # records that are no calls
    tombstones: Counter[int] = field(default_factory=Counter)  # by partition

    def read(self, partition: int, offset: int, value: bytes | None) -> None:
        if value is None:
            self.tombstones[partition] += 1
        elif (end := decoded(value)) is None:
            self.foreign[partition, offset] = value
        else:
            number = end["wb_run_step_end"]
            self.numbers.append(NOT_A_POST if number is None else number)
            self.partitions.append(partition)
            self.offsets.append(offset)
            self.identities.append(identity(end["project_id"], end["id"]))

    def records(self) -> Counter[int]:
        """By partition, all of them."""
        return Counter(self.partitions) + self.tombstones + Counter(partition for partition, _ in self.foreign)

    def places(self, numbers: Iterable[int]) -> dict[int, list[Place]]:
        """By number of the post, where its records are, in the order of each partition."""
        found: dict[int, list[Place]] = {number: [] for number in numbers}
        for number, partition, offset in zip(self.numbers, self.partitions, self.offsets, strict=True):
            if number in found:
                found[number].append((partition, offset))
        return found


def decoded(value: bytes) -> dict[str, Any] | None:
    """The `end` of a call; None if it is none. fastavro with the whole schema: not what the workers read with."""
    if not value.startswith(HEADER_V1):
        return None
    try:
        call: Any = fastavro.schemaless_reader(BytesIO(value[len(HEADER_V1) :]), PARSED, None)
    except EOFError:
        return None
    end: dict[str, Any] = call["end"]
    return end


def identity(project_id: str, call_id: str) -> int:
    return zlib.crc32(f"{project_id}\0{call_id}".encode())


@dataclass(slots=True)
class Expectation:
    """`tables` are whole when `settle` was called. `problems`: what is wrong whatever is stored."""

    tables: Tables = field(default_factory=lambda: {name: {} for name in TABLES})
    calls: int = 0
    lost: int = 0  # acknowledged posts without a record
    unknown_on_log: int = 0
    unknown_not_on_log: int = 0
    problems: list[str] = field(default_factory=list)
    disputed: dict[int, list[Post]] = field(default_factory=lambda: defaultdict(list))  # by call, posts on the log
    settled_by_key: int = 0  # calls whose records lie on several partitions, with different contents

    def settle(self, log: Log, winners: Mapping[int, Place]) -> None:
        """Add the disputed calls. `winners`: by call, which record the dedupe key names, where `across` asks for it."""
        places = log.places(post.number for posts in self.disputed.values() for post in posts)
        for call, posts in self.disputed.items():
            of = {place: post for post in posts for place in places[post.number]}
            winner = min(of)
            if len({partition for partition, _ in of}) > 1:
                self.settled_by_key += 1
                winner = winners.get(call, winner)
                if winner not in of:
                    self.problems.append(f"the key of call {call} names {winner}, where none of its records is")
                    continue
            added(self.tables, adds_of(of[winner].end))


def expect(posts: Iterable[Post], outcomes: Outcomes, log: Log) -> Expectation:
    """From the posts of the run, once more; what their clients know; and the log when all is over."""
    expectation, copies, identities = Expectation(), array("Q"), array("Q")
    copies.extend(0 for _ in outcomes.fates)
    identities.extend(copies)
    for number, named in zip(log.numbers, log.identities, strict=True):
        if not 0 <= number < len(copies):
            expectation.problems.append(f"a record on the log is of no post of this run ({number})")
            continue
        copies[number] += 1
        identities[number] = named
    counted = set[int]()
    for post in posts:
        there = copies[post.number]
        expectation.problems += _problems(post, Fate(outcomes.fates[post.number]), outcomes, there)
        if outcomes.fates[post.number] == Fate.UNKNOWN:
            expectation.unknown_on_log += there > 0
            expectation.unknown_not_on_log += there == 0
        expectation.lost += outcomes.fates[post.number] == Fate.ACKNOWLEDGED and not there
        if not there or post.call is None:
            continue
        if identities[post.number] != identity(post.end["project_id"], post.end["id"]):
            expectation.problems.append(f"the record of post {post.number} names another call")
        if post.disputed:
            expectation.disputed[post.call].append(post)
        if post.call in counted:
            continue
        counted.add(post.call)
        if not post.disputed:
            added(expectation.tables, adds_of(post.end))
    expectation.calls = len(counted)
    return expectation


def _problems(post: Post, fate: Fate, outcomes: Outcomes, copies: int) -> Iterator[str]:
    if fate is Fate.ACKNOWLEDGED and not copies:
        yield f"post {post.number} was acknowledged and is not on the log"
    if fate is Fate.ACKNOWLEDGED and post.refusal is not None:
        yield f"post {post.number} was acknowledged and should have got {post.refusal}"
    if fate is Fate.REFUSED and outcomes.refusals[post.number] != post.refusal:
        yield f"post {post.number} got {outcomes.refusals[post.number]} in place of {post.refusal or 200}"
    if copies and (fate is Fate.REFUSED or fate is Fate.UNSENT or post.call is None):
        yield f"post {post.number} is on the log, although it was never accepted"


def across_partitions(expectation: Expectation, log: Log) -> dict[int, Post]:
    """The disputed calls whose records lie on several partitions, each with one of its posts."""
    places = log.places(post.number for posts in expectation.disputed.values() for post in posts)
    return {
        call: posts[0]
        for call, posts in expectation.disputed.items()
        if len({partition for post in posts for partition, _ in places[post.number]}) > 1
    }
