"""Moving a checkpoint by hand: the counting of one partition goes on at another offset."""

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

from processor.deadline import Deadline
from processor.errors import ExitCode, Stop
from processor.sinks.base import LogIdentity
from processor.sinks.postgres import baselines
from processor.sinks.postgres.connection import Connection
from processor.sinks.postgres.maintain import once_alone, session

_ROW: Final = "cluster_id = %(cluster_id)s AND topic_id = %(topic_id)s AND partition = %(partition)s"

# Workers whose session lives; they are ours, so that we see when it began.
_OWNERS: Final = """
SELECT count(*) FROM checkpoints JOIN pg_stat_activity ON pid = owner_pid AND backend_start = owner_started
WHERE cluster_id = %(cluster_id)s AND topic_id = %(topic_id)s"""

# The counters begin anew: their laws hold from the first offset on. When the last record came is no longer known, so
# that no dedupe key goes before one is counted again.
_MOVE: Final = f"""
UPDATE checkpoints
SET next_offset = %(offset)s, first_offset = %(offset)s, records_read = 0, counted = 0, duplicates = 0, conflicts = 0,
    dead_lettered = 0, skipped = 0, gap_offsets = 0, record_time = NULL, dead_letters = '{{}}',
    breaker_run = 0, breaker_read = 0, breaker_rejected = 0, epoch = epoch + 1, updated_at = now()
WHERE {_ROW}"""

_REMEMBER: Final = f"""
INSERT INTO moved_checkpoints (cluster_id, topic_id, partition, begins, decided_to)
SELECT cluster_id, topic_id, partition, begins, decided_to FROM decided WHERE {_ROW}
ON CONFLICT (cluster_id, topic_id, partition) DO UPDATE SET decided_to = excluded.decided_to"""


@dataclass(frozen=True, slots=True)
class Move:
    was: int
    will_be: int
    key_floor: dt.date  # dedupe keys of days before it are gone


def move(
    dsn: str, log: LogIdentity, partition: int, offset: int, bounds: tuple[int, int], deadline: Deadline, *, do: bool
) -> Move:
    """What it means to go on at `offset`, which must lie within the log's `bounds`; done only if `do`.

    `Stop` if a worker of this log has a session, or if the partition was never taken.
    """
    arguments: dict[str, Any] = {
        "cluster_id": log.cluster_id, "topic_id": log.topic_id, "partition": partition, "offset": offset,
    }  # fmt: skip
    if not bounds[0] <= offset <= bounds[1]:
        raise Stop(ExitCode.USAGE, f"partition {partition} has the offsets {bounds[0]} to {bounds[1]}: choose one")
    with session(dsn, deadline) as connection, once_alone(connection), connection.transaction():
        row = connection.execute(f"SELECT next_offset FROM checkpoints WHERE {_ROW} FOR UPDATE", arguments).fetchone()
        if row is None:
            raise Stop(ExitCode.USAGE, f"partition {partition} of this log was never taken: it has no checkpoint")
        _require_stopped(connection, arguments)
        if do:
            connection.execute(_REMEMBER, arguments)
            connection.execute(_MOVE, arguments)
            baselines.forget_beyond(connection, (log.cluster_id, log.topic_id, partition), offset)
        ((floor,),) = connection.execute("SELECT key_floor FROM installation").fetchall()
        return Move(row[0], offset, floor)


def _require_stopped(connection: Connection, arguments: dict[str, Any]) -> None:
    ((owners,),) = connection.execute(_OWNERS, arguments).fetchall()
    if owners:
        raise Stop(
            ExitCode.PROTECT_NUMBERS,
            f"workers hold {owners} partitions of this log: stop all of them first; nothing was changed",
        )
