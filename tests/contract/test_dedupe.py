"""Each call counts once, on a real PostgreSQL: which calls are the same, for how long, and who may forget one."""

import datetime as dt
import threading
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Self

import psycopg
import pytest
from psycopg import errors

from processor.calls import id_time_ms
from processor.counting.rows import CallRows, CountedCall
from processor.deadline import Deadline
from processor.errors import Unavailable
from processor.sinks.base import Batch, Checkpoint, Forgotten, LogIdentity, TakeOver
from processor.sinks.postgres.call_keys import call_key
from processor.sinks.postgres.write import PostgresSink
from tests.factories import NOON_MS, NOON_US, counted, span, uuid7
from tests.snapshot import Snapshot
from tests.stack import wait_until

LOG = LogIdentity("cluster", "topic-id", "llm-call-end", "call-processor")
DAY_MS, HOUR_US = 86_400_000, 3_600_000_000
EPOCH = dt.date(1970, 1, 1)
TODAY = NOON_MS // DAY_MS
YEAR_MS = 365 * DAY_MS

TIMED = {"a UUIDv7": uuid7(1), "a UUIDv7 of yesterday": uuid7(1, NOON_MS - DAY_MS)}
UNTIMED = {
    "16 hex digits": "0123456789abcdef",
    "free text": "the cat's 3rd call, später",
    "a UUIDv4": str(uuid.UUID(int=7, version=4)),
    "a UUIDv7 of 1970": uuid7(1, 0),
    "a UUIDv7 of 2019": uuid7(1, 49 * YEAR_MS),
    "a UUIDv7 of 2150": uuid7(1, 180 * YEAR_MS + 60 * DAY_MS),
    "a UUIDv7 in 32 digits": uuid7(1).replace("-", ""),
}
IDS = TIMED | UNTIMED
every_kind_of_id = pytest.mark.parametrize("call_id", IDS.values(), ids=IDS.keys())
a_timed_and_an_untimed_id = pytest.mark.parametrize("call_id", [uuid7(1), "0123456789abcdef"], ids=["timed", "untimed"])


class Keeper:
    """A sink that owns two partitions, and writes calls to where their offsets have come."""

    def __init__(self, dsn: str, partitions: tuple[int, int] = (0, 1)) -> None:
        self.sink = PostgresSink(lambda: dsn, LOG)
        self.rows = self.sink.take([TakeOver(partition, 0) for partition in partitions], soon())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sink.close()

    def count(self, *calls: CountedCall, partition: int = 0, record_ms: int = NOON_MS) -> Checkpoint:
        self.rows |= self.sink.write(self.batch(calls, partition, record_ms), soon())
        return self.rows[partition]

    def batch(self, calls: Iterable[CountedCall], partition: int = 0, record_ms: int = NOON_MS) -> Batch:
        found, row = CallRows(), self.rows[partition]
        for at, call in enumerate(calls):
            found.append(call, partition, row.next_offset + at, record_ms)
        spans = (span(len(found.calls), partition=partition, epoch=row.epoch, start=row.next_offset),)
        return Batch(spans, found)


def soon() -> Deadline:
    return Deadline.after(10)


@pytest.fixture
def keeper(database: str) -> Iterator[Keeper]:
    with Keeper(database) as keeper:
        yield keeper


@pytest.fixture
def db(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def number(db: psycopg.Connection, query: str) -> int:
    row = db.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def key_days(db: psycopg.Connection) -> set[str]:
    rows = db.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'seen_calls'::regclass")
    return {name.rpartition("_")[2] for (name,) in rows}


def date_of(day: int) -> dt.date:
    return EPOCH + dt.timedelta(days=day)


def raise_floor(db: psycopg.Connection, day: int) -> None:
    db.execute("UPDATE installation SET key_floor = %s", (date_of(day),))


def drop(db: psycopg.Connection, day: int) -> None:
    db.execute("SELECT drop_key_day(%s)", (date_of(day),))


# --- which calls are the same


@a_timed_and_an_untimed_id
def test_what_another_session_counted_is_a_repeat_and_so_is_all_that_comes_later(
    keeper: Keeper, database: str, db: psycopg.Connection, call_id: str
) -> None:
    """The keys are copied straight into their tables until one is there already, and again some batches later; the
    calls are added up before that is known."""
    keeper.count(counted(call_id))
    with Keeper(database, (2, 3)) as other:
        row = other.count(counted("another"), counted(call_id), counted(call_id, failed=True), partition=2)
        assert (row.counted, row.duplicates, row.conflicts) == (1, 2, 1)
        for later in range(8):
            row = other.count(counted(call_id), counted(f"{later}"), counted("another"), partition=2)
        assert (row.counted, row.duplicates, row.conflicts) == (9, 18, 1)
    assert number(db, "SELECT sum(calls) FROM outcome_totals") == 10


def test_a_session_does_not_believe_what_the_database_has_forgotten(keeper: Keeper, database: str) -> None:
    """It was set back: what was counted since is counted again, also by a partition that stands where it stood."""
    keeper.count(counted("first"), partition=1)
    before = Snapshot(database)
    keeper.count(counted("lost"))
    before.restore()
    assert keeper.count(counted("first"), counted("lost"), partition=1).counted == 2


@every_kind_of_id
def test_a_call_counts_once_however_often_and_wherever_it_comes(keeper: Keeper, call_id: str) -> None:
    keeper.count(counted(call_id), counted(call_id))
    keeper.count(counted(call_id), counted("another"))
    keeper.count(counted(call_id), counted(call_id), partition=1)
    assert [(row.counted, row.duplicates, row.conflicts) for row in keeper.rows.values()] == [(2, 2, 0), (0, 2, 0)]


def test_an_id_carries_its_time_only_if_that_lies_between_2020_and_2100(keeper: Keeper, db: psycopg.Connection) -> None:
    assert [call_id for call_id in IDS.values() if id_time_ms(call_id) is not None] == list(TIMED.values())
    keeper.count(*map(counted, IDS.values()))
    assert number(db, "SELECT count(*) FROM seen_calls") == len(TIMED)
    assert number(db, "SELECT count(*) FROM seen_calls_untimed") == len(UNTIMED)


def test_the_same_id_in_another_project_is_another_call(keeper: Keeper) -> None:
    projects = ("acme/chat", "acme/bot", "acme/Chat", "Acme/chat", "acmé/chat")
    calls = [counted(call_id, project_id=project) for call_id in IDS.values() for project in projects]
    assert keeper.count(*calls).counted == len(IDS) * len(projects)


def test_project_and_id_do_not_run_into_each_other(keeper: Keeper) -> None:
    calls = [counted("x1", project_id="e/p"), counted("1", project_id="e/px"), counted("", project_id="e/px1")]
    assert keeper.count(*calls).counted == 3


@a_timed_and_an_untimed_id
def test_a_repeat_with_another_ended_at_is_a_repeat_and_a_conflict_only_in_another_hour(
    keeper: Keeper, call_id: str
) -> None:
    keeper.count(counted(call_id))
    row = keeper.count(counted(call_id, ended_at_us=NOON_US + 1), counted(call_id, ended_at_us=NOON_US - 1))
    assert (row.counted, row.duplicates, row.conflicts) == (1, 2, 1)


@a_timed_and_an_untimed_id
def test_a_repeat_days_later_is_a_repeat(keeper: Keeper, call_id: str) -> None:
    for days in (0, 1, 34):
        row = keeper.count(counted(call_id), record_ms=NOON_MS + days * DAY_MS)
    assert (row.counted, row.duplicates, row.conflicts) == (1, 2, 0)


# --- conflicts: the first that was ever counted is what a repeat is compared with


@a_timed_and_an_untimed_id
def test_repeats_within_a_batch_are_compared_with_the_call_that_was_counted_not_with_each_other(
    keeper: Keeper, call_id: str
) -> None:
    first, other = counted(call_id), counted(call_id, usage={"gpt-4o": 11})
    keeper.count(first)
    assert keeper.count(other, other, partition=1).conflicts == 2
    assert keeper.count(other, first).conflicts == 1


@a_timed_and_an_untimed_id
def test_a_conflict_with_a_call_that_another_worker_is_just_committing_is_seen(
    keeper: Keeper, database: str, db: psycopg.Connection, call_id: str
) -> None:
    keeper.count(counted("before"), counted(uuid7(9)))  # so that the day is there
    (seed,) = db.execute("SELECT hash_seed FROM installation").fetchone() or (b"",)
    key, day = call_key(seed, "acme/chat", call_id)
    insert = (
        "INSERT INTO seen_calls_untimed VALUES (%s, 0, 0, 9, '2026-09-21')"
        if day is None
        else "INSERT INTO seen_calls VALUES (%s, 0, 0, 9)"
    )
    with ThreadPoolExecutor(1) as pool:
        with psycopg.connect(database) as other:
            other.execute(insert, (uuid.UUID(bytes=key),))
            writing = pool.submit(keeper.count, counted(call_id))
            wait_until(lambda: waits_for(db, other), within_s=10, what="the insert waits for the other one")
        row = writing.result()
    assert (row.counted, row.duplicates, row.conflicts) == (2, 1, 1)


def waits_for(db: psycopg.Connection, holder: psycopg.Connection) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
    (waiting,) = db.execute(query, (holder.info.backend_pid,)).fetchone() or (0,)
    return bool(waiting)


def test_two_workers_that_insert_the_same_keys_at_the_same_time_do_not_deadlock(
    database: str, db: psycopg.Connection
) -> None:
    """Each batch of one has the same calls as the batch of the other, in another order."""
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = number(db, deadlocks)
    together = threading.Barrier(2)

    def work(partition: int) -> Checkpoint:
        r = Random(partition)
        with Keeper(database, (partition, partition + 2)) as keeper:
            for first in range(0, 16_000, 4000):
                ids = [uuid7(n) if n % 2 else f"id {n}" for n in range(first, first + 4000)]
                together.wait(10)
                keeper.count(*(counted(call_id) for call_id in r.sample(ids, len(ids))), partition=partition)
            return keeper.rows[partition]

    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(work, (0, 1)))
    assert sum(row.counted for row in rows) == sum(row.duplicates for row in rows) == 16_000
    assert number(db, "SELECT sum(calls) FROM outcome_totals") == 16_000
    assert number(db, deadlocks) == before


# --- days


def test_a_missing_day_is_created_on_demand(keeper: Keeper, db: psycopg.Connection) -> None:
    days = (TODAY - 35, TODAY - 1, TODAY, TODAY + 1)
    keeper.count(*(counted(uuid7(day, day * DAY_MS)) for day in days))
    assert key_days(db) == {f"{date_of(day):%Y%m%d}" for day in days}
    assert number(db, "SELECT count(*) FROM seen_calls") == len(days)


def test_a_day_that_another_worker_creates_at_the_same_time_is_no_error(database: str) -> None:
    together = threading.Barrier(4)

    def work(partition: int) -> int:
        with Keeper(database, (partition, partition + 4)) as keeper:
            together.wait(10)
            calls = [counted(uuid7(partition, (TODAY + day) * DAY_MS)) for day in range(5)]
            return keeper.count(*calls, partition=partition).counted

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [5] * 4


def test_a_live_day_cannot_be_dropped(keeper: Keeper, db: psycopg.Connection) -> None:
    keeper.count(counted(uuid7(1)))
    raise_floor(db, TODAY)
    with pytest.raises(errors.RaiseException, match="is not below the floor"):
        drop(db, TODAY)
    assert keeper.count(counted(uuid7(1))).duplicates == 1


def test_a_day_that_a_batch_in_flight_has_a_key_in_is_not_dropped_before_that_commits(
    keeper: Keeper, database: str, db: psycopg.Connection
) -> None:
    keeper.count(counted(uuid7(1)))
    raise_floor(db, TODAY + 1)
    db.execute("SET lock_timeout = '100ms'")
    with psycopg.connect(database) as other:
        other.execute("INSERT INTO seen_calls SELECT call_key, 0, 0, 9 FROM seen_calls ON CONFLICT DO NOTHING")
        with pytest.raises(errors.LockNotAvailable):
            drop(db, TODAY)
    drop(db, TODAY)
    assert key_days(db) == set()


def test_a_day_below_the_floor_is_never_created_again(keeper: Keeper, db: psycopg.Connection) -> None:
    keeper.count(counted(uuid7(1)))
    raise_floor(db, TODAY + 1)
    drop(db, TODAY)
    db.execute("SELECT create_key_day(%s)", (date_of(TODAY),))
    assert key_days(db) == set()


def old_and_new() -> list[CountedCall]:
    """Two calls of before today, by their ids or their ends, and two of today."""
    return [
        counted(uuid7(1, NOON_MS - DAY_MS)),
        counted("new", ended_at_us=NOON_US + 25 * HOUR_US),
        counted("old", ended_at_us=NOON_US - 24 * HOUR_US),
        counted(uuid7(1)),
    ]


def test_a_call_whose_key_may_be_gone_is_refused_with_its_whole_batch_and_named(
    keeper: Keeper, db: psycopg.Connection
) -> None:
    raise_floor(db, TODAY)
    with pytest.raises(Forgotten) as refused:
        keeper.count(*old_and_new())
    assert refused.value.positions == [0, 2]
    assert key_days(db) == set()
    assert number(db, "SELECT count(*) FROM outcome_totals") == 0
    assert keeper.sink.read([0], soon()) == {0: keeper.rows[0]}
    kept = [call for at, call in enumerate(old_and_new()) if at not in refused.value.positions]
    assert keeper.count(*kept).counted == 2


def test_a_repeat_of_a_call_whose_key_was_dropped_while_we_knew_its_day_is_not_counted_again(
    keeper: Keeper, db: psycopg.Connection
) -> None:
    keeper.count(counted(uuid7(1)))
    raise_floor(db, TODAY + 1)
    with pytest.raises(Forgotten):  # the day is still there
        keeper.count(counted(uuid7(1)))
    drop(db, TODAY)
    with pytest.raises(Unavailable, match="a day of dedupe keys is missing"):
        keeper.count(counted(uuid7(1)), counted(uuid7(2)))
    for call_id in (uuid7(1), uuid7(2)):
        with pytest.raises(Forgotten):
            keeper.count(counted(call_id))
    assert number(db, "SELECT sum(calls) FROM outcome_totals") == 1


def test_a_floor_that_rises_while_a_batch_is_written_refuses_it(
    keeper: Keeper, database: str, db: psycopg.Connection
) -> None:
    keeper.count(counted(uuid7(1)))
    with ThreadPoolExecutor(1) as pool:
        with psycopg.connect(database) as other:
            other.execute("SELECT FROM checkpoints FOR UPDATE")
            writing = pool.submit(keeper.count, counted(uuid7(2)))
            wait_until(lambda: waits_for(db, other), within_s=10, what="the batch waits for its checkpoint")
            raise_floor(db, TODAY + 1)
        with pytest.raises(Forgotten):
            writing.result()
    assert number(db, "SELECT count(*) FROM seen_calls") == 1


@pytest.mark.parametrize(("hours", "refused"), [(25, False), (24, True)])
def test_an_untimed_call_is_refused_if_a_record_of_it_can_be_older_than_the_floor(
    keeper: Keeper, db: psycopg.Connection, hours: int, refused: bool
) -> None:
    """A call is let in until 25 h before it ends: its first record may be so much older than its end."""
    raise_floor(db, TODAY)
    call = counted("x", ended_at_us=TODAY * 24 * HOUR_US + hours * HOUR_US)
    if refused:
        with pytest.raises(Forgotten):
            keeper.count(call)
    else:
        assert keeper.count(call).counted == 1
