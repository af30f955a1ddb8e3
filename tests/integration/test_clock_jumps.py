"""The wall clock that ingest reads jumps by an hour, both ways: no call is lost, none is counted in another hour."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Final

import pytest

from processor.ingest.outage import Outage
from processor.ingest.publisher import KafkaPublisher
from processor.kafka.producer import Producer
from processor.kafka.promises import producer_properties
from processor.limits import DOOR_AHEAD_HOURS, DOOR_OLDEST_DAYS
from processor.metrics import IngestMetrics, new_registry
from processor.sample.oracle import expect
from processor.sample.posts import Post, sample
from processor.sample.sender import send
from tests.factories import uuid7
from tests.laws import assert_each_call_counted_once
from tests.produce import HORIZON_DAYS
from tests.running_door import running
from tests.stack import Installation

pytestmark = pytest.mark.stack
HOUR: Final = timedelta(hours=1)
RIGHT: Final = timedelta(0)
BORDER: Final = timedelta(seconds=30)  # how far from it: as long as this test takes, and more
OLDEST: Final = timedelta(days=HORIZON_DAYS + DOOR_OLDEST_DAYS)
NEWEST: Final = timedelta(hours=DOOR_AHEAD_HOURS)


class JumpingClock:
    """Off by one of these, the next one each time that somebody looks."""

    def __init__(self, *offsets: timedelta) -> None:
        self._one_by_one = threading.Lock()
        self.jump(*offsets)

    def jump(self, *offsets: timedelta) -> None:
        self._offsets = cycle(offsets)

    def __call__(self) -> datetime:
        with self._one_by_one:
            return datetime.now(UTC) + next(self._offsets)


@contextmanager
def door(installation: Installation, clock: JumpingClock) -> Iterator[str]:
    """On the real broker, with this clock; its URL."""
    outage = Outage()
    connection = {"bootstrap.servers": installation.servers.bootstrap_servers}
    properties = producer_properties(connection, delivery_timeout_s=8, max_record_bytes=8 * 2**20)
    producer = Producer(properties, outage.on_event)
    publisher = KafkaPublisher(
        producer.produce,
        installation.topic,
        outage,
        IngestMetrics(new_registry()),
        ack_timeout_s=9,
        serve=producer.serve,
    )
    try:
        with running(publisher=publisher, now=clock) as one:
            yield f"http://127.0.0.1:{one.port}"
    finally:
        producer.close(9)


def ended(name: str, at: datetime) -> Iterator[Post]:
    """Two calls that ended then: one whose id carries the time, one whose id does not."""
    for call_id in (uuid7(len(name), round(at.timestamp() * 1000)), name):
        end = {"project_id": f"clocks/{name}", "id": call_id, "ended_at": at.isoformat()}
        body = json.dumps({"end": {**end, "summary": {"status_counts": {"success": 1}}}}).encode()
        yield Post(body, call=(f"clocks/{name}", call_id))


def test_calls_are_counted_once_and_in_their_own_hours_while_the_clock_of_ingest_jumps(
    installation: Installation,
) -> None:
    now, clock = datetime.now(UTC), JumpingClock(RIGHT, HOUR, -HOUR)
    accepted: list[Post] = []

    def assert_answered(url: str, posts: list[Post], status: int = 200) -> None:
        answers = send(url, posts, attempts=1)
        assert {answer.status for answer in answers} == {status}
        accepted.extend(answer.post for answer in answers if status == 200)

    worker = installation.start_worker()
    with door(installation, clock) as url:
        assert_answered(url, sample(6, now=now, calls=300, bad=False))
        latest = list(ended("latest", now + NEWEST + HOUR - BORDER))
        oldest = list(ended("oldest", now - OLDEST - HOUR + BORDER))
        clock.jump(RIGHT)
        assert_answered(url, [*latest, *oldest], 422)
        clock.jump(HOUR)
        assert_answered(url, latest)  # 25 hours ahead of the broker's clock: the worker's bound is as much wider
        clock.jump(-HOUR)
        assert_answered(url, oldest)
    assert_each_call_counted_once(installation, expect(post.parsed() for post in accepted))
    assert worker.is_ready()
