"""Looking after the tables, on a real PostgreSQL: which keys may go, and when."""

import datetime as dt
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

import psycopg
import pytest
from psycopg import sql

from processor.codec.rules import outside_horizon
from processor.counting.rows import CallRows, CountedCall
from processor.deadline import Deadline
from processor.errors import Stop
from processor.ledger import Place
from processor.limits import worker_window
from processor.sinks.base import Batch, LogIdentity, TakeOver
from processor.sinks.postgres import baselines
from processor.sinks.postgres.key_days import compute_floor, key_days
from processor.sinks.postgres.maintain import alone, maintain, once_alone, session
from processor.sinks.postgres.migrate import migrate
from processor.sinks.postgres.move import move
from processor.sinks.postgres.operate import Offsets, adopt
from processor.sinks.postgres.write import PostgresSink
from tests.factories import batch, counted, span, uuid7
from tests.stack import Servers, wait_until

pytestmark = pytest.mark.stack

LOG = LogIdentity("cluster", "topic-id", "llm-call-end", "call-processor")
HORIZON = 35
DAY = dt.timedelta(days=1)
DAY_MS = 86_400_000
NOW = dt.datetime(2026, 9, 21, 12, tzinfo=dt.UTC)
PARTITIONS = (0, 1)


def soon() -> Deadline:
    return Deadline.after(20)


def place(partition: int) -> Place:
    return LOG.cluster_id, LOG.topic_id, partition


# --- the floor


def floor_day(
    progress: Mapping[int, tuple[int, dt.datetime | None]], bounds: Mapping[int, tuple[int, int]]
) -> tuple[dt.date | None, int | None]:
    floor = compute_floor(
        {place(p): at for p, at in progress.items()}, {place(p): at for p, at in bounds.items()}, NOW, HORIZON
    )
    return floor.day, None if floor.held_by is None else floor.held_by[2]


CAUGHT_UP = (NOW - 37 * DAY).date()


@pytest.mark.parametrize(
    ("progress", "bounds", "expected"),
    [
        ({0: (5, NOW - 3 * DAY)}, {0: (0, 5)}, (CAUGHT_UP, None)),
        ({0: (5, NOW - 3 * DAY)}, {0: (0, 6)}, (CAUGHT_UP - 3 * DAY, 0)),
        ({0: (5, NOW - 3 * DAY)}, {}, (CAUGHT_UP - 3 * DAY, 0)),  # nobody tells where its log ends
        ({0: (5, NOW), 1: (4, NOW - DAY)}, {0: (0, 5), 1: (0, 9)}, (CAUGHT_UP - DAY, 1)),
        ({0: (5, NOW), 1: (0, None)}, {0: (0, 5), 1: (0, 9)}, (None, 1)),  # records of any age may come
        ({0: (5, NOW), 1: (0, None)}, {0: (0, 5), 1: (0, 0)}, (CAUGHT_UP, None)),
        ({0: (5, NOW)}, {0: (0, 5), 1: (0, 9)}, (None, 1)),  # a partition that nobody has taken yet
        ({0: (5, NOW)}, {0: (0, 5), 1: (0, 0)}, (CAUGHT_UP, None)),
        ({}, {}, (CAUGHT_UP, None)),
    ],
)
def test_the_floor_is_that_of_the_partition_which_is_furthest_behind(
    progress: Mapping[int, tuple[int, dt.datetime | None]],
    bounds: Mapping[int, tuple[int, int]],
    expected: tuple[dt.date | None, int | None],
) -> None:
    assert floor_day(progress, bounds) == expected


# --- one at a time


def test_two_programs_never_look_after_the_same_tables_at_the_same_time(database: str) -> None:
    with session(database, soon()) as connection, alone(connection) as first:
        assert first
        assert maintain(database, {}, NOW, HORIZON, soon()) is None
    assert maintain(database, {}, NOW, HORIZON, soon()) is not None


def test_a_clock_that_is_ahead_of_the_database_drops_nothing(database: str) -> None:
    real = dt.datetime.now(dt.UTC)
    done = maintain(database, {}, real + 400 * DAY, HORIZON, soon())
    assert done is not None
    assert done.floor <= (real - 36 * DAY).date()


def test_a_horizon_that_is_lowered_drops_no_key_before_a_week_has_passed(database: str) -> None:
    began = dt.datetime.now(dt.UTC) - 20 * DAY

    def floor(day: int, horizon_days: int) -> dt.date:
        done = maintain(database, {}, began + day * DAY, horizon_days, soon())
        assert done is not None
        return done.floor

    kept_from = (began - 37 * DAY).date()
    assert floor(0, 35) == kept_from
    assert floor(1, 7) == kept_from + DAY
    assert floor(2, 35) == kept_from + 2 * DAY
    assert floor(9, 7) == kept_from + 9 * DAY
    assert floor(10, 7) == (began + 10 * DAY - 9 * DAY).date()


def test_a_day_that_a_batch_uses_is_left_for_the_next_run_and_nobody_waits_long(database: str) -> None:
    real = dt.datetime.now(dt.UTC)
    with psycopg.connect(database) as batch:
        batch.execute("SELECT create_key_day(%s)", ((real - 50 * DAY).date(),))
    with psycopg.connect(database) as batch:
        batch.execute("SELECT count(*) FROM seen_calls")
        done = maintain(database, {}, real, HORIZON, soon())
        assert done is not None
        assert (done.dropped, done.left) == ([], [(real - 50 * DAY).date()])
    again = maintain(database, {}, real, HORIZON, soon())
    assert again is not None
    assert again.dropped == done.left


def test_a_statement_may_last_as_long_as_the_deadline_whatever_the_role_is_allowed(database: str) -> None:
    with session(f"{database}%20-cstatement_timeout%3D50", soon()) as connection:
        connection.execute("SELECT pg_sleep(0.2)")


# --- a year


@dataclass
class Simulation:
    """A log of two partitions, whose records are counted when a test says so."""

    dsn: str
    r: Random = field(default_factory=lambda: Random(9))
    log: dict[int, list[tuple[dt.datetime, CountedCall]]] = field(default_factory=lambda: {p: [] for p in PARTITIONS})
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(10**6)))

    def append(self, now: dt.datetime, partition: int, call: CountedCall) -> None:
        self.log[partition].append((now, call))

    def new_call(self, now: dt.datetime) -> CountedCall:
        ended = now - self.r.random() ** 3 * (HORIZON - 1) * DAY + self.r.random() * DAY / 2
        number = next(self.numbers)
        id_ms = int((ended - self.r.random() * DAY).timestamp() * 1000)
        call_id = uuid7(number, id_ms) if self.r.random() < 0.7 else f"call {number}"
        return counted(call_id, ended_at_us=int(ended.timestamp()) * 1_000_000)

    def repeat(self, now: dt.datetime, partition: int, most: int) -> None:
        """Calls of the past, those included that the horizon no longer lets in."""
        past = [call for _, call in self.log[partition][-1500:]]
        for call in self.r.sample(past, min(most, len(past))):
            self.append(now, partition, call)

    def accepted(self, time: dt.datetime, call: CountedCall) -> bool:
        time_ms = round(time.timestamp() * 1000)
        return not list(outside_horizon(call, worker_window(time_ms, HORIZON), HORIZON))

    def count(self, *partitions: int) -> None:
        """Everything of these partitions that is not counted yet; `Forgotten` fails the test."""
        sink = PostgresSink(lambda: self.dsn, LOG)
        for partition, row in sink.take([TakeOver(p, 0) for p in partitions], soon()).items():
            calls = CallRows()
            records = self.log[partition][row.next_offset :]
            for offset, (time, call) in enumerate(records, row.next_offset):
                if self.accepted(time, call):
                    calls.append(call, partition, offset, round(time.timestamp() * 1000))
            if records:
                time_ms = round(records[-1][0].timestamp() * 1000)
                written = span(
                    len(records),
                    partition=partition,
                    epoch=row.epoch,
                    start=row.next_offset,
                    dead_lettered=len(records) - len(calls.calls),
                    time_ms=time_ms,
                )
                sink.write(Batch((written,), calls), soon())
        sink.close()

    def maintain(self, now: dt.datetime) -> None:
        bounds = {place(partition): (0, len(records)) for partition, records in self.log.items()}
        assert maintain(self.dsn, bounds, now, HORIZON, soon()) is not None

    def days(self) -> list[dt.date]:
        with session(self.dsn, soon()) as connection:
            return key_days(connection)

    def distinct(self) -> int:
        return len({
            (call.project_id, call.id)
            for records in self.log.values()
            for time, call in records
            if self.accepted(time, call)
        })  # fmt: skip

    def stored(self) -> int:
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute("SELECT sum(calls)::bigint FROM outcome_totals").fetchone()
            assert row is not None
            return int(row[0])


@contextmanager
def own_database(servers: Servers, name: str) -> Iterator[str]:
    """A whole database, so that a copy of its files can be its backup."""
    run(servers, "CREATE DATABASE {}", name)
    dsn = f"{servers.dsn.rpartition('/')[0]}/{name}"
    migrate(dsn, soon())
    yield dsn
    run(servers, "DROP DATABASE {}", name)


def run(servers: Servers, statement: str, *names: str) -> None:
    with psycopg.connect(servers.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@dataclass(frozen=True, slots=True)
class Year:
    """What happens on which of its days."""

    days: int
    behind: range  # one partition is not counted
    replay: int
    backup: int
    restore: int

    def looked_at(self, day: int) -> bool:
        return day % 10 == 0 or day in {self.behind[-1], self.behind[-1] + 1, self.restore}


WHOLE: Final = Year(365, range(100, 150), replay=200, backup=250, restore=255)
SHORT: Final = Year(160, range(30, 80), replay=95, backup=105, restore=110)


@pytest.mark.parametrize("year", [SHORT, pytest.param(WHOLE, marks=pytest.mark.long)], ids=["short", "whole"])
def test_a_year_of_days_drops_keys_in_time_and_never_early(servers: Servers, year: Year) -> None:
    """With a partition that is 50 days behind, a replay of three weeks, and a database that is restored from a backup
    of five days before; then more days than a key is kept."""
    name = f"year_{Random().getrandbits(48):x}"
    backup = f"{name}_backup"
    with own_database(servers, name) as dsn:
        simulation = Simulation(dsn)
        began = dt.datetime.now(dt.UTC).replace(hour=12) - (year.days + 1) * DAY
        for number in range(year.days):
            now = began + number * DAY
            for partition in PARTITIONS:
                for _ in range(3):
                    simulation.append(now, partition, simulation.new_call(now))
                simulation.repeat(now, partition, most=2)
            if number == year.replay:
                for partition in PARTITIONS:
                    for time, call in [each for each in simulation.log[partition] if each[0] >= now - 21 * DAY]:
                        assert time <= now
                        simulation.append(now, partition, call)
            behind = number in year.behind
            simulation.count(*(0,) if behind else PARTITIONS)
            simulation.maintain(now)
            if number == year.backup:
                run(servers, "CREATE DATABASE {} TEMPLATE {}", backup, name)
            if number == year.restore:
                run(servers, "DROP DATABASE {}", name)
                run(servers, "CREATE DATABASE {} TEMPLATE {}", name, backup)
                run(servers, "DROP DATABASE {}", backup)
                simulation.maintain(now)  # some days of the log are not counted again yet: their keys must stay
            if year.looked_at(number):
                held_from = now
                if behind or number == year.restore:
                    held_from = began + (year.behind[0] - 1 if behind else year.backup) * DAY
                assert min(simulation.days()) >= (held_from - (HORIZON + 2) * DAY).date()
                assert (now + DAY).date() in simulation.days()
        assert simulation.stored() == simulation.distinct()
        with psycopg.connect(dsn) as connection:
            untimed = connection.execute("SELECT min(day) FROM seen_calls_untimed").fetchone()
        assert untimed is not None
        assert untimed[0] >= (now - (HORIZON + 2) * DAY).date()


# --- baselines


def counted_to(database: str, *calls: CountedCall) -> None:
    sink = PostgresSink(lambda: database, LOG)
    row = sink.take([TakeOver(0, 0)], soon())[0]
    sink.write(batch(*calls, epoch=row.epoch, start=row.next_offset), soon())
    sink.close()


def baseline_numbers(database: str) -> list[int]:
    with session(database, soon()) as connection:
        return [one.number for one in baselines.baselines(connection)]


def test_a_checkpoint_that_is_set_back_takes_the_baselines_along_that_are_beyond_it(database: str) -> None:
    """Calls that are counted the second time only are in no totals of before."""
    now = dt.datetime.now(dt.UTC)
    counted_to(database, counted("a"))
    for number in (1, 2):
        with session(database, soon()) as connection:
            assert baselines.take(connection) == number
        counted_to(database, counted(f"b{number}"))
    move(database, LOG, 0, 1, (0, 3), soon(), do=True)
    assert baseline_numbers(database) == [1]
    later = maintain(database, {place(0): (0, 3)}, now + DAY, HORIZON, soon())
    assert later is not None
    assert later.baseline is None  # it is read again now: what is counted then is in no totals yet
    counted_to(database, counted("b1"), counted("b2"))
    later = maintain(database, {place(0): (0, 3)}, now + DAY, HORIZON, soon())
    assert later is not None
    assert later.baseline == 2


def test_no_operator_moves_what_a_baseline_is_taken_of(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted_to(database, counted("a"))
    monkeypatch.setattr("processor.sinks.postgres.maintain.WAIT_MS", 100)
    with session(database, soon()) as connection, alone(connection):
        with pytest.raises(Stop, match="try again later"):
            move(database, LOG, 0, 0, (0, 1), soon(), do=True)
        with pytest.raises(Stop, match="try again later"):
            adopt(database, replace(LOG, topic_id="other"), Offsets.RESTART, soon())


def test_whoever_cannot_come_again_waits_for_the_other(database: str) -> None:
    with ExitStack() as other, session(database, soon()) as connection, ThreadPoolExecutor(1) as pool:
        other.enter_context(alone(other.enter_context(session(database, soon()))))

        def wait() -> None:
            with once_alone(connection):
                pass

        waiting = pool.submit(wait)
        with psycopg.connect(database, autocommit=True) as looking:
            wait_until(
                lambda: looking.execute(
                    "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                ).fetchone() is not None,
                within_s=20, what="it waits",
            )  # fmt: skip
        other.close()
        waiting.result(20)


def test_what_was_moved_in_a_log_that_is_given_up_says_nothing_of_the_next(database: str) -> None:
    counted_to(database, counted("a"), counted("b"))
    move(database, LOG, 0, 0, (0, 2), soon(), do=True)
    adopt(database, replace(LOG, topic_id="second"), Offsets.RESTART, soon())
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT * FROM moved_checkpoints").fetchall() == []
