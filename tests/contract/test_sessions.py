"""Sessions of the PostgreSQL sink: which of them is kept, and that none is left behind."""

from dataclasses import replace

import psycopg
import pytest

from processor.deadline import Deadline
from processor.errors import Stop, Unavailable
from processor.sinks.base import LogIdentity, TakeOver
from processor.sinks.postgres.write import PostgresSink
from tests.stack import wait_until

LOG = LogIdentity("cluster", "topic-id", "llm-call-end", "call-processor")
OURS = "FROM pg_stat_activity WHERE application_name = 'call-processor'"


def soon() -> Deadline:
    return Deadline.after(10)


def count_sessions(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        (count,) = connection.execute(f"SELECT count(*) {OURS}").fetchone() or (0,)
    return int(count)


def end_sessions(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(f"SELECT pg_terminate_backend(pid, 1000) {OURS}")


def read_only(dsn: str) -> str:
    return f"{dsn}%20-cdefault_transaction_read_only%3Don"


def test_a_server_that_only_reads_is_told_at_once_and_the_next_try_may_be_led_to_another(database: str) -> None:
    """Were its session kept after a fail-over, we would wait for ever on the server that lost."""
    dsns = iter([read_only(database), database])
    sink = PostgresSink(lambda: next(dsns), LOG)
    with pytest.raises(Unavailable, match="SQLSTATE 25006"):
        sink.read([0], soon())
    assert sink.take([TakeOver(0, 0)], soon())[0].epoch == 1
    sink.close()


def test_no_session_is_left_behind_by_tries_that_fail(database: str) -> None:
    dsns = iter([database, read_only(database), read_only(database), database])
    sink = PostgresSink(lambda: next(dsns), LOG)
    sink.take([TakeOver(0, 0)], soon())
    end_sessions(database)
    for _ in range(3):
        with pytest.raises(Unavailable):
            sink.read([0], soon())
    assert sink.read([0], soon())[0] is not None
    wait_until(lambda: count_sessions(database) == 1, within_s=5, what="there is one session")
    sink.close()
    wait_until(lambda: count_sessions(database) == 0, within_s=5, what="there is no session")


def test_two_groups_that_begin_on_the_same_empty_tables_at_once_do_not_both_get_them(database: str) -> None:
    """They share the rows, so the later one finds the name of the first in them."""
    first, second = (
        PostgresSink(lambda: database, LOG),
        PostgresSink(lambda: database, replace(LOG, consumer_group="other")),
    )
    for sink in (first, second):
        sink.read([0], soon())
    assert first.take([TakeOver(0, 0)], soon())[0].epoch == 1
    for partition in (0, 1):
        with pytest.raises(Stop, match="another consumer group"):
            second.take([TakeOver(partition, 0)], soon())
    first.close()
    second.close()


def test_two_topics_that_begin_on_the_same_empty_tables_at_once_do_not_both_get_them(database: str) -> None:
    """Each has looked before the other has written: the one that is later sees both."""
    other = replace(LOG, topic="other", topic_id="other-id")
    first, second = PostgresSink(lambda: database, LOG), PostgresSink(lambda: database, other)
    for sink in (first, second):
        sink.read([0], soon())
    assert first.take([TakeOver(0, 0)], soon())[0].epoch == 1
    with pytest.raises(Stop, match="another topic"):
        second.take([TakeOver(0, 0)], soon())
    with psycopg.connect(database) as connection:  # as if it had looked before that
        connection.execute(
            "INSERT INTO checkpoints (cluster_id, topic_id, partition, topic, consumer_group, epoch, next_offset,"
            " first_offset) VALUES ('cluster', 'other-id', 0, 'other', 'call-processor', 1, 0, 0)"
        )
    with pytest.raises(Stop, match="another topic"):
        first.take([TakeOver(1, 0)], soon())
    first.close()
    second.close()
