"""Sample calls as records on the topic, without the door: for tests of what reads them."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final
from zlib import crc32

from confluent_kafka import Producer

from processor.calls import parse_call_end
from processor.codec.rows import encode
from processor.sample.oracle import Expected, expect
from processor.sample.posts import Post, sample
from tests.stack import Installation

HORIZON_DAYS: Final = 35
FLUSH_S: Final = 10
CHUNK: Final = 50
CHUNK_EVERY_S: Final = 0.2
ANY_PARTITION: Final = -1  # the client's word for it


def producer_of(installation: Installation) -> Producer:
    return Producer(
        {"bootstrap.servers": installation.servers.bootstrap_servers, "enable.idempotence": True, "linger.ms": 5}
    )


def _value(post: Post, now: datetime) -> bytes:
    return encode(parse_call_end(post.body, now=now, horizon_days=HORIZON_DAYS))


class Calls:
    """What a test puts on the topic, and what must be counted of it.

    Records are keyed by their call: all partitions get some, and repeats of a call keep their order.
    """

    def __init__(self, installation: Installation, seed: int, producer: Producer | None = None) -> None:
        self._topic = installation.topic
        self._seeds = iter(range(seed * 10_000, (seed + 1) * 10_000))
        self._posts: list[Post] = []
        self.producer = producer or producer_of(installation)
        self.only: Sequence[int] = ()  # the partitions to produce to; all, if none is named

    def produce(self, calls: int) -> None:
        """So many calls, and repeats of some; returns when they are acknowledged."""
        now = datetime.now(UTC)
        self._publish(sample(next(self._seeds), now=now, calls=calls, bad=False), now)

    def repeat(self) -> None:
        """Everything again."""
        self._publish(list(self._posts), datetime.now(UTC))

    def poison(self, partition: int, key: bytes = b"poison") -> None:
        """One more call, in a record with a key that some defect waits for: see tests/poison and tests/wedge."""
        now = datetime.now(UTC)
        (post,) = sample(next(self._seeds), now=now, calls=1, bad=False)[:1]
        self.producer.produce(self._topic, _value(post, now), key=key, partition=partition)
        self._acknowledged([post])

    def _publish(self, posts: Sequence[Post], now: datetime) -> None:
        for post in posts:
            key = str(post.call).encode()
            partition = self.only[crc32(key) % len(self.only)] if self.only else ANY_PARTITION
            self.producer.produce(self._topic, _value(post, now), key=key, partition=partition)
        self._acknowledged(posts)

    def _acknowledged(self, posts: Sequence[Post]) -> None:
        assert self.producer.flush(FLUSH_S) == 0
        self._posts += posts

    @property
    def produced(self) -> int:
        return len(self._posts)

    def expected(self) -> Expected:
        return expect(post.parsed() for post in self._posts)


@contextmanager
def streaming(calls: Calls) -> Iterator[None]:
    """Calls all the time, as long as the context lasts."""
    finished = threading.Event()

    def produce() -> None:
        while not finished.wait(CHUNK_EVERY_S):
            calls.produce(CHUNK)

    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(produce)
        try:
            yield
        finally:
            finished.set()
        stream.result()
