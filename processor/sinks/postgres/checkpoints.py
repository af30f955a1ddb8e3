"""The rows that say how far the log is counted, and who may move them.

A row belongs to (cluster_id, topic_id, partition): to the tables and the log, not to a group or a name.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from psycopg import errors
from psycopg.types.json import Jsonb

from processor.deadline import Deadline
from processor.errors import ExitCode, Stop
from processor.sinks.base import Batch, Breaker, Checkpoint, Fenced, LogIdentity, TakeOver
from processor.sinks.postgres.connection import Connection

# Checkpoint's fields, in the order of _COLUMNS; Breaker's follow.
_FIELDS: Final = (
    "epoch", "next_offset", "first_offset", "records_read", "counted", "duplicates", "conflicts", "dead_lettered",
    "skipped", "gap_offsets", "record_time_ms", "dead_letters",
)  # fmt: skip
_COLUMNS: Final = """
    checkpoints.epoch, checkpoints.next_offset, checkpoints.first_offset, checkpoints.records_read,
    checkpoints.counted, checkpoints.duplicates, checkpoints.conflicts, checkpoints.dead_lettered,
    checkpoints.skipped, checkpoints.gap_offsets, (extract(epoch FROM checkpoints.record_time) * 1000)::bigint,
    checkpoints.dead_letters,
    checkpoints.breaker_run, checkpoints.breaker_read, checkpoints.breaker_rejected, checkpoints.breaker_tripped_at,
    checkpoints.breaker_allowed_to"""

_IDENTITY: Final = ("topic", "cluster", "topic of this name", "consumer group")  # what a row belongs to
_ROW: Final = "cluster_id = %(cluster_id)s AND topic_id = %(topic_id)s"

# Who we are, as the next owner will look for us should we freeze while we hold a row.
_SESSION: Final = "(SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())"

_TAKE: Final = f"""
INSERT INTO checkpoints (cluster_id, topic_id, partition, topic, consumer_group, epoch, next_offset, first_offset,
                         owner_pid, owner_started)
VALUES (%(cluster_id)s, %(topic_id)s, %(partition)s, %(topic)s, %(consumer_group)s, %(above_epoch)s::bigint + 1,
        %(log_start)s, %(log_start)s, pg_backend_pid(), {_SESSION})
ON CONFLICT (cluster_id, topic_id, partition) DO UPDATE
SET epoch = greatest(checkpoints.epoch, %(above_epoch)s) + 1,
    owner_pid = excluded.owner_pid, owner_started = excluded.owner_started, updated_at = now()
RETURNING {_COLUMNS}"""

# Ends the session that a row names as its owner, if that session still lives. A process that is frozen inside a COPY
# holds its locks, and no timeout of PostgreSQL ends it; a role may end its own sessions.
_END_OWNER: Final = f"""
SELECT pg_terminate_backend(activity.pid)
FROM checkpoints JOIN pg_stat_activity AS activity
     ON activity.pid = owner_pid AND activity.backend_start = owner_started AND activity.usename = current_user
WHERE {_ROW} AND partition = %(partition)s AND activity.pid <> pg_backend_pid()"""

_ADVANCE: Final = f"""
UPDATE checkpoints
SET next_offset = moved.next_offset, records_read = moved.records_read, counted = moved.counted,
    duplicates = moved.duplicates, conflicts = moved.conflicts, dead_lettered = moved.dead_lettered,
    skipped = moved.skipped, gap_offsets = moved.gap_offsets,
    record_time = to_timestamp(moved.record_time_ms / 1000.0), dead_letters = moved.dead_letters,
    breaker_run = moved.breaker_run, breaker_read = moved.breaker_read, breaker_rejected = moved.breaker_rejected,
    updated_at = now()
FROM unnest(%(partition)s::int[], %(next_offset)s::bigint[], %(records_read)s::bigint[], %(counted)s::bigint[],
            %(duplicates)s::bigint[], %(conflicts)s::bigint[], %(dead_lettered)s::bigint[], %(skipped)s::bigint[],
            %(gap_offsets)s::bigint[], %(record_time_ms)s::bigint[], %(dead_letters)s::jsonb[],
            %(breaker_run)s::bigint[], %(breaker_read)s::bigint[], %(breaker_rejected)s::bigint[])
     AS moved(partition, next_offset, records_read, counted, duplicates, conflicts, dead_lettered, skipped,
              gap_offsets, record_time_ms, dead_letters, breaker_run, breaker_read, breaker_rejected)
WHERE {_ROW} AND checkpoints.partition = moved.partition"""


class Checkpoints:
    """The rows of one log in one database; every method runs on the connection that it is given."""

    def __init__(self, log: LogIdentity) -> None:
        self._log = log
        self._key = {"cluster_id": log.cluster_id, "topic_id": log.topic_id}

    def check_identity(self, connection: Connection) -> None:
        """`Stop` if the tables belong to another log or another consumer group: one schema holds one log's totals."""
        others = connection.execute(
            "SELECT DISTINCT topic, cluster_id, topic_id, consumer_group FROM checkpoints"
        ).fetchall()
        mine = (self._log.topic, self._log.cluster_id, self._log.topic_id, self._log.consumer_group)
        for row in others:
            for what, stored, ours in zip(_IDENTITY, row, mine, strict=True):
                if stored != ours:
                    raise Stop(
                        ExitCode.PROTECT_NUMBERS,
                        f"these totals were counted from another {what} ({stored}) than this one ({ours}): point the "
                        "worker at the right one, give it a schema of its own, or take the totals over with "
                        "`call-processor checkpoints adopt`",
                    )

    def take(self, connection: Connection, wish: TakeOver, deadline: Deadline) -> Checkpoint:
        """Raise the epoch of one row; ends the session of a frozen owner that holds it."""
        arguments = {
            **self._key, "topic": self._log.topic, "consumer_group": self._log.consumer_group,
            "partition": wish.partition, "log_start": wish.log_start, "above_epoch": wish.above_epoch,
        }  # fmt: skip
        while True:
            try:
                row = connection.execute(_TAKE, arguments).fetchone()
            except errors.LockNotAvailable:
                if deadline.passed():
                    raise
                connection.execute(_END_OWNER, arguments)
            else:
                return _checkpoint(_one(row))

    def register(self, connection: Connection, epochs: Mapping[int, int]) -> None:
        """Name this session as the owner of rows that an earlier session of this process took."""
        connection.execute(
            f"UPDATE checkpoints SET owner_pid = pg_backend_pid(), owner_started = {_SESSION}"
            " FROM unnest(%(partitions)s::int[], %(epochs)s::bigint[]) AS mine(partition, epoch)"
            f" WHERE {_ROW} AND checkpoints.partition = mine.partition AND checkpoints.epoch = mine.epoch",
            {**self._key, "partitions": list(epochs), "epochs": list(epochs.values())},
        )

    def read(self, connection: Connection, partitions: Collection[int]) -> dict[int, Checkpoint | None]:
        return self._select(connection, partitions, "")

    def lock(self, connection: Connection, batch: Batch) -> dict[int, Checkpoint]:
        """The compare of compare-and-swap, and the first lock of the transaction. `Fenced` if a row does not fit."""
        stored = self._select(connection, [span.partition for span in batch.spans], "FOR UPDATE")
        locked = {}
        for span in batch.spans:
            row = stored[span.partition]
            if row is None or row.epoch != span.epoch or row.next_offset != span.start:
                raise Fenced(stored)
            locked[span.partition] = row
        return locked

    def advance(self, connection: Connection, moved: Mapping[int, Checkpoint]) -> None:
        """Store rows that this transaction has locked."""
        rows = moved.values()
        columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in _FIELDS}
        connection.execute(
            _ADVANCE,
            {
                **self._key, **columns, "partition": list(moved),
                "dead_letters": [Jsonb(row.dead_letters) for row in rows],
                "breaker_run": [row.breaker.run for row in rows],
                "breaker_read": [row.breaker.read for row in rows],
                "breaker_rejected": [row.breaker.rejected for row in rows],
            },
        )  # fmt: skip

    def trip(self, connection: Connection, partition: int, epoch: int, breaker: Breaker) -> None:
        connection.execute(
            "UPDATE checkpoints SET breaker_run = %(run)s, breaker_read = %(read)s, breaker_rejected = %(rejected)s,"
            f" breaker_tripped_at = %(tripped_at)s WHERE {_ROW} AND partition = %(partition)s AND epoch = %(epoch)s",
            {
                **self._key, "partition": partition, "epoch": epoch, "run": breaker.run, "read": breaker.read,
                "rejected": breaker.rejected, "tripped_at": breaker.tripped_at,
            },
        )  # fmt: skip

    def _select(self, connection: Connection, partitions: Collection[int], lock: str) -> dict[int, Checkpoint | None]:
        rows = connection.execute(
            f"SELECT partition, {_COLUMNS} FROM checkpoints WHERE {_ROW} AND partition = ANY(%(partitions)s)"
            f" ORDER BY partition {lock}",
            {**self._key, "partitions": list(partitions)},
        ).fetchall()
        found = {row[0]: _checkpoint(row[1:]) for row in rows}
        return {partition: found.get(partition) for partition in partitions}


def _checkpoint(row: tuple[Any, ...]) -> Checkpoint:
    return Checkpoint(**dict(zip(_FIELDS, row, strict=False)), breaker=Breaker(*row[len(_FIELDS) :]))


def _one(row: tuple[Any, ...] | None) -> tuple[Any, ...]:
    if row is None:
        raise LookupError("the statement always returns a row")
    return row
