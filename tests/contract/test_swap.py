"""The exchange of a rebuild, on a real PostgreSQL: whatever happens beside it, no call is lost, and nobody's tables."""

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from urllib.parse import quote

import psycopg
import pytest

from processor.counting.rows import CallRows, CountedCall, fold
from processor.deadline import Deadline
from processor.errors import Stop, Unavailable
from processor.sinks.base import Batch, TakeOver
from processor.sinks.postgres.ledger import PostgresLedger
from processor.sinks.postgres.migrate import migrate
from processor.sinks.postgres.shadow import Plan, Shadow, open_shadow
from processor.sinks.postgres.swap import swap
from processor.sinks.postgres.write import PostgresSink
from tests.contract.stored import LOG, stored_totals
from tests.factories import NOON_MS, counted, span
from tests.stack import Servers

pytestmark = pytest.mark.stack

FIRST, SECOND = counted("first"), counted("second")
ALL = Plan({0: 0}, None, 35)


def soon() -> Deadline:
    return Deadline.after(20)


def count(dsn: str, log: Mapping[int, Sequence[CountedCall]], within_s: float = 20) -> None:
    """As a worker does that takes these partitions: everything that is not counted yet."""
    sink = PostgresSink(lambda: dsn, LOG)
    deadline = Deadline.after(within_s)
    try:
        for partition, row in sink.take([TakeOver(partition, 0) for partition in log], deadline).items():
            calls = CallRows()
            for offset, call in enumerate(log[partition][row.next_offset :], row.next_offset):
                calls.append(call, partition, offset, NOON_MS)
            written = span(len(calls.calls), partition=partition, epoch=row.epoch, start=row.next_offset)
            sink.write(Batch((written,), calls), deadline)
    finally:
        sink.close()


def shadow_of(dsn: str, plan: Plan = ALL) -> Shadow:
    return open_shadow(dsn, LOG, plan, dict.fromkeys(plan.starts, 0), soon())


def test_a_partition_that_is_added_while_the_tables_are_exchanged_loses_no_call(database: str) -> None:
    count(database, {0: [FIRST]})
    shadow = shadow_of(database)

    def catch_up(ends: Mapping[int, int]) -> None:
        count(shadow.dsn, {0: [FIRST]})
        with suppress(Unavailable):  # a worker that has just got partition 1
            count(database, {1: [SECOND]}, within_s=1)

    swap(database, LOG, shadow, catch_up, soon(), keep=True)
    count(database, {1: [SECOND]})
    assert stored_totals(database) == fold([FIRST, SECOND])


def test_a_second_rebuild_that_begins_anew_meanwhile_empties_no_table(database: str) -> None:
    count(database, {0: [FIRST]})
    shadow = shadow_of(database)

    def catch_up(ends: Mapping[int, int]) -> None:
        count(shadow.dsn, {0: [FIRST]})
        shadow_of(database, Plan({0: 0}, None, 36))

    with pytest.raises(Stop, match="counted again up to"):
        swap(database, LOG, shadow, catch_up, soon(), keep=True)
    assert stored_totals(database) == fold([FIRST])


def test_a_schema_that_no_rebuild_made_is_left_alone(database: str) -> None:
    schema = f"{name_of(database)}_rebuild"
    with psycopg.connect(database) as connection:
        connection.execute(f"CREATE SCHEMA {schema} CREATE TABLE precious (number int)".encode())
    with pytest.raises(Stop, match=schema):
        shadow_of(database)
    with psycopg.connect(database) as connection:
        assert connection.execute(f"SELECT count(*) FROM {schema}.precious".encode()).fetchone() == (0,)


def test_a_schema_whose_name_is_long_and_not_ascii_can_be_rebuilt_twice(servers: Servers) -> None:
    name = "ä" * 30
    with psycopg.connect(servers.dsn) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    dsn = f"{servers.dsn}?options={quote(f'-csearch_path={name}')}"
    migrate(dsn, soon())
    assert shadow_of(dsn, Plan({0: 0}, None, 36)).name == shadow_of(dsn).name == "ä" * 27 + "_rebuild"


def test_a_look_at_keys_that_were_exchanged_since_the_snapshot_is_refused(database: str) -> None:
    count(database, {0: [FIRST]})
    with closing(PostgresLedger(lambda: database)) as ledger:
        with ledger.snapshot() as snapshot:
            pass
        count(database, {1: [SECOND]})  # workers go on, and partitions are added
        ledger.require_unmoved(snapshot)
        shadow = shadow_of(database, Plan({0: 0, 1: 0}, None, 35))
        swap(
            database, LOG, shadow, lambda _: count(shadow.dsn, {0: [FIRST], 1: [SECOND]}), soon(), keep=True
        )  # fmt: skip
        with pytest.raises(Stop, match="verify again"):
            ledger.require_unmoved(snapshot)


def name_of(dsn: str) -> str:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT current_schema()").fetchone()
    assert row is not None
    return str(row[0])
