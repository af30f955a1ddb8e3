"""What an operator does to checkpoints, with the workers stopped or not: every row changed gets a higher epoch, so that
whoever owns it notices before it writes again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from psycopg.rows import class_row

from processor.deadline import Deadline
from processor.errors import ExitCode, Stop
from processor.sinks.base import LogIdentity
from processor.sinks.postgres import baselines
from processor.sinks.postgres.connection import Connection, connect, translated_errors
from processor.sinks.postgres.maintain import once_alone, session
from processor.sinks.postgres.migrate import check_migrated


class Offsets(StrEnum):
    """What becomes of the offsets of another log."""

    KEEP = "keep"  # the log is the same, record by record: go on at the stored offsets
    RESTART = "restart"  # it is another log: begin at its start; calls that were counted before are duplicates


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    topic: str
    partition: int
    consumer_group: str
    cluster_id: str
    topic_id: str
    epoch: int
    next_offset: int
    breaker_tripped_at: int | None


_ALL = """SELECT topic, partition, consumer_group, cluster_id, topic_id, epoch, next_offset, breaker_tripped_at
          FROM checkpoints ORDER BY topic, cluster_id, topic_id, partition"""


def all_checkpoints(dsn: str, deadline: Deadline) -> list[StoredCheckpoint]:
    with connect(dsn, deadline) as connection, translated_errors():
        check_migrated(connection)
        return _rows(connection)


def resume(dsn: str, log: LogIdentity, log_ends: Mapping[int, int], deadline: Deadline) -> list[int]:
    """Close the breakers of this log; what is in the log now is not judged again. The partitions that had tripped."""
    with connect(dsn, deadline) as connection, translated_errors():
        check_migrated(connection)
        rows = connection.execute(
            """UPDATE checkpoints
               SET breaker_run = 0, breaker_read = 0, breaker_rejected = 0, breaker_tripped_at = NULL,
                   breaker_allowed_to = log_end, epoch = epoch + 1, updated_at = now()
               FROM unnest(%(partitions)s::int[], %(log_ends)s::bigint[]) AS ends(partition, log_end)
               WHERE cluster_id = %(cluster_id)s AND topic_id = %(topic_id)s AND breaker_tripped_at IS NOT NULL
                 AND checkpoints.partition = ends.partition
               RETURNING checkpoints.partition""",
            {
                "cluster_id": log.cluster_id, "topic_id": log.topic_id,
                "partitions": list(log_ends), "log_ends": list(log_ends.values()),
            },
        ).fetchall()  # fmt: skip
        return sorted(partition for (partition,) in rows)


def adopt(dsn: str, log: LogIdentity, offsets: Offsets | None, deadline: Deadline) -> list[StoredCheckpoint]:
    """Make the rows belong to this log and this group. Those that were of others, as they were.

    `offsets`: needed where the log is another one, and then nothing is done without it (`Stop`).
    """
    identity = {"cluster_id": log.cluster_id, "topic_id": log.topic_id, "topic": log.topic, "group": log.consumer_group}
    foreign = "(cluster_id <> %(cluster_id)s OR topic_id <> %(topic_id)s)"
    with session(dsn, deadline) as connection, once_alone(connection):
        with connection.transaction():
            before = [row for row in _rows(connection) if _differs(row, log)]
            other_log = any(_is_other_log(row, log) for row in before)
            if offsets is None and other_log:
                raise Stop(
                    ExitCode.USAGE, "the log is another one: say what becomes of the offsets, `--offsets keep|restart`"
                )
            if other_log and offsets is Offsets.RESTART:
                _give_up_log(connection, foreign, identity)
            elif other_log:
                # Rows of this log that were begun meanwhile stand for less than those that are kept.
                connection.execute(
                    "DELETE FROM checkpoints USING checkpoints AS kept WHERE checkpoints.cluster_id = %(cluster_id)s"
                    " AND checkpoints.topic_id = %(topic_id)s"
                    " AND (kept.cluster_id <> %(cluster_id)s OR kept.topic_id <> %(topic_id)s)"
                    " AND kept.partition = checkpoints.partition",
                    identity,
                )
                connection.execute(
                    "DELETE FROM moved_checkpoints WHERE cluster_id = %(cluster_id)s AND topic_id = %(topic_id)s",
                    identity,
                )
                connection.execute(
                    "UPDATE moved_checkpoints SET cluster_id = %(cluster_id)s, topic_id = %(topic_id)s", identity
                )
                connection.execute(
                    "UPDATE checkpoints SET cluster_id = %(cluster_id)s, topic_id = %(topic_id)s, topic = %(topic)s,"
                    f" epoch = epoch + 1, updated_at = now() WHERE {foreign}",
                    identity,
                )
            connection.execute(
                "UPDATE checkpoints SET consumer_group = %(group)s, epoch = epoch + 1, updated_at = now()"
                " WHERE consumer_group <> %(group)s",
                identity,
            )
            if other_log:
                baselines.forget_all(connection)
        if other_log:
            baselines.take(connection)  # what was counted until now is where the next check of the totals begins
        return before


def _give_up_log(connection: Connection, foreign: str, identity: Mapping[str, str]) -> None:
    """What was counted from it stays in the totals. Its keys stay too, but where their calls stand in that log must not
    be taken for a place in another one: a partition below 0 is in no log."""
    for table in ("checkpoints", "moved_checkpoints"):
        connection.execute(f"DELETE FROM {table} WHERE {foreign}", identity)
    connection.execute("UPDATE maintenance SET adopted_at = now()")
    for table in ("seen_calls", "seen_calls_untimed"):
        connection.execute(f"UPDATE {table} SET partition = -1 - partition WHERE partition >= 0")


def _rows(connection: Connection) -> list[StoredCheckpoint]:
    with connection.cursor(row_factory=class_row(StoredCheckpoint)) as cursor:
        return cursor.execute(_ALL).fetchall()


def _differs(row: StoredCheckpoint, log: LogIdentity) -> bool:
    return _is_other_log(row, log) or row.consumer_group != log.consumer_group


def _is_other_log(row: StoredCheckpoint, log: LogIdentity) -> bool:
    return (row.cluster_id, row.topic_id) != (log.cluster_id, log.topic_id)
