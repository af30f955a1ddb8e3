"""Records that wait in a topic, and who counts them: the worker, or what others do with that topic."""

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from confluent_kafka import Consumer, TopicPartition

from bench.meter import Sample, measured
from bench.peers import Peer
from bench.peers import python as peers_python
from bench.place import PARTITIONS, Place
from bench.records import Load, publish
from bench.report import Say
from processor.sample.stored import counters
from tests.stack import Installation

SCHEMA: Final = Path(__file__).parents[1] / "schemas" / "call_end.v1.avsc"
DAYS: Final = 34  # that have keys: today, and those before it, within the horizon
_REMEMBER: Final = """
INSERT INTO seen_calls (call_key, content_hash, record_offset, partition)
SELECT uuidv7(since + least(interval '1 day', -since) * n / %(keys)s), 0, n, 0
FROM (SELECT %(day)s::timestamp - now() AT TIME ZONE 'UTC' AS since) AS day, generate_series(0, %(keys)s - 1) AS n"""
NAIVE_EVENTS, QUIX_EVENTS = 100_000, 60_000  # what takes them some ten seconds


@dataclass(frozen=True, slots=True)
class Backlog:
    """`calls` of the `records` are different ones."""

    place: Place
    topic: str
    records: int
    calls: int


Count = Callable[[Backlog], Sample]


@contextmanager
def backlog(place: Place, load: Load, say: Say) -> Iterator[Backlog]:
    with place.topic() as topic:
        say(f"filling a topic with {load.events:,} records")
        yield Backlog(place, topic, load.events, publish(place.kafka.bootstrap_servers, topic, load))


def ours(waiting: Backlog, keys: int = 0) -> Sample:
    """`keys`: of calls that were counted before."""
    with waiting.place.installation(waiting.topic) as installation:
        if keys:
            remember(installation, keys)
        worker = installation.start("worker")
        progress = Progress(installation)
        sample = measured(waiting.place.meter(worker.pid), progress, until=waiting.records)
        check(installation, waiting)
        return with_all(sample) | {"bytes a call": key_bytes(installation) / (waiting.calls + keys)}


def remember(installation: Installation, keys: int) -> None:
    """As if so many calls had been counted, as many on each day; today's since midnight."""
    today = dt.datetime.now(dt.UTC).date()
    with psycopg.connect(installation.dsn, autocommit=True) as connection:
        for days in range(DAYS):
            of_day = {"day": today - dt.timedelta(days=days), "keys": keys // DAYS}
            connection.execute("SELECT create_key_day(%(day)s)", of_day)
            connection.execute(_REMEMBER, of_day)


def ours_by_two(waiting: Backlog) -> Sample:
    """By two processes, and how often they were in each other's way."""
    with waiting.place.installation(waiting.topic) as installation:
        worker = installation.start("worker", "--processes", "2")
        progress = Progress(installation)
        before = deadlocks(installation)
        sample = with_all(measured(waiting.place.meter(worker.pid), progress, until=waiting.records))
        check(installation, waiting)
        retries = worker.log.read_text(encoding="utf-8").count('"event": "waiting"')
        collided = {"deadlocks": deadlocks(installation) - before, "retries": retries}
        return sample | {"waits for a lock, of all looks": progress.waited / progress.looks, **collided}


class Progress:
    """How many records are accounted for, as other sessions see it; `waited`: looks that saw a session of a worker wait
    for another one's lock."""

    def __init__(self, installation: Installation) -> None:
        self.looks = 0
        self.waited = 0
        self._installation = installation

    def __call__(self) -> int:
        for process in self._installation.processes:
            assert process.poll() is None, f"{process.name} ended with {process.poll()}:\n{process.tail()}"
        ((done, waits),) = self._installation.rows(
            "SELECT coalesce(sum(records_read), 0),"
            " (SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock') FROM checkpoints"
        )
        self.looks += 1
        self.waited += waits > 0
        return int(done)


def check(installation: Installation, waiting: Backlog) -> None:
    """A rate of wrong numbers is none."""
    found = counters(installation.dsn, waiting.topic)
    assert (found.counted, found.duplicates) == (waiting.calls, waiting.records - waiting.calls), found
    (calls,) = installation.rows("SELECT sum(calls) FROM outcome_totals")[0]
    assert calls == waiting.calls, f"{calls} of {waiting.calls} calls are in the totals"


def key_bytes(installation: Installation) -> int:
    """On disk, of what remembers calls: tables and indexes."""
    query = "SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables WHERE schemaname = current_schema()"
    return int(installation.rows(query + " AND relname LIKE 'seen_calls%'")[0][0])


def deadlocks(installation: Installation) -> int:
    return int(installation.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")[0][0])


def raw_consume(waiting: Backlog) -> Sample:
    with waiting.place.installation(waiting.topic) as installation:
        peer = Peer("raw_consume", *_log(waiting, installation), folder=waiting.place.folder)
        return _measured(waiting, installation, waiting.records, peer)


def naive(waiting: Backlog, events: int = NAIVE_EVENTS) -> Sample:
    with waiting.place.installation(waiting.topic) as installation:
        arguments = (*_log(waiting, installation), installation.dsn, str(SCHEMA))
        peer = Peer("naive_worker", *arguments, folder=waiting.place.folder)
        return _measured(waiting, installation, events, peer)


def quix(waiting: Backlog) -> Sample:
    with waiting.place.installation(waiting.topic) as installation:
        state = waiting.place.folder / f"quix-{installation.name}"
        arguments = (*_log(waiting, installation), str(state), str(SCHEMA))
        peer = Peer("quix_worker", *arguments, folder=waiting.place.folder, python=peers_python())
        return _measured(waiting, installation, QUIX_EVENTS, peer)


def _log(waiting: Backlog, installation: Installation) -> tuple[str, str, str]:
    return waiting.place.kafka.bootstrap_servers, waiting.topic, installation.name


def _measured(waiting: Backlog, installation: Installation, events: int, peer: Peer) -> Sample:
    """Its progress is what its group has committed: all of them do that when they are done with a batch."""
    consumer = Consumer({"bootstrap.servers": waiting.place.kafka.bootstrap_servers, "group.id": installation.name})
    places = [TopicPartition(waiting.topic, partition) for partition in range(PARTITIONS)]

    def progress() -> int:
        peer.assert_runs()
        return sum(max(0, place.offset) for place in consumer.committed(places, timeout=10))

    peer.launch()
    try:
        until = min(events, waiting.records)
        return with_all(measured(waiting.place.meter(peer.pid), progress, until=until))
    finally:
        peer.kill()
        consumer.close()


def with_all(sample: Sample) -> Sample:
    """The CPU time of all together, before the other figures of its kind."""
    rate, *rest = sample.items()
    return dict([rate, ("all us", sum(value for name, value in rest if name.endswith(" us"))), *rest])
