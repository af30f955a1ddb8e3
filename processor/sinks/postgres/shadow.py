"""Fresh tables beside the live ones: the same schema once more, under the name `<schema>_rebuild`.

Its hash seed is that of the live tables, so that their keys can be exchanged. It is filled through the same sink, and
lasts until its content is swapped in, or it is of no use any more.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from processor import __version__
from processor.deadline import Deadline
from processor.errors import ExitCode, Stop
from processor.sinks.base import LogIdentity
from processor.sinks.postgres.connection import Connection
from processor.sinks.postgres.maintain import session
from processor.sinks.postgres.migrate import migrate

SUFFIX: Final = "_rebuild"
_NAME_BYTES: Final = 63  # that PostgreSQL keeps of a name

# What the log no longer has was counted into the live tables: the keys of these calls are taken over.
_OLD_KEYS: Final = """
INSERT INTO {shadow}.{table} SELECT old.* FROM {live}.{table} AS old
LEFT JOIN unnest(%(partitions)s::int[], %(starts)s::bigint[]) AS begun(partition, start) USING (partition)
WHERE start IS NULL OR record_offset < start"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is counted again. `kept_before`: hours before it are not (None: all are)."""

    starts: Mapping[int, int]
    kept_before: dt.datetime | None
    horizon_days: int


@dataclass(frozen=True, slots=True)
class Shadow:
    live: str
    name: str
    dsn: str
    plan: Plan

    @property
    def mark(self) -> str:
        """The schema's comment: what it is, and so may be dropped."""
        return f"call-processor rebuild of {self.live}"


def open_shadow(dsn: str, log: LogIdentity, plan: Plan, log_starts: Mapping[int, int], deadline: Deadline) -> Shadow:
    """The one that an interrupted run has begun, with its own plan: if it was the same program with the same horizon,
    on the same partitions, and the log still has what it has not counted. Else a new one."""
    with session(dsn, deadline) as connection:
        ((live,),) = connection.execute("SELECT current_schema()").fetchall()
        name = live.encode()[: _NAME_BYTES - len(SUFFIX)].decode(errors="ignore") + SUFFIX
        shadow = Shadow(live, name, _dsn_of(dsn, name), plan)
        begun = _begun(connection, shadow, log)
        if begun is not None and _can_go_on(connection, shadow, begun, log_starts):
            return replace(shadow, plan=begun)
        drop_shadow(connection, shadow)
        _create(connection, shadow, deadline)
        _begin(connection, shadow, log)
        return shadow


def drop_shadow(connection: Connection, shadow: Shadow) -> None:
    """If it is there; `Stop` if the schema of its name is something else."""
    found = connection.execute(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s", (shadow.name,)
    ).fetchone()
    if found is None:
        return
    if found != (shadow.mark,):
        raise Stop(
            ExitCode.PROTECT_NUMBERS,
            f"rebuilding needs a schema {shadow.name}, and there is one that no rebuild of {shadow.live} made: rename "
            "or drop it; nothing was changed",
        )
    connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(shadow.name)))


def _dsn_of(dsn: str, schema: str) -> str:
    """`dsn` with this schema: a later option wins."""
    path = '"' + schema.replace('"', '""') + '"'
    escaped = path.replace("\\", "\\\\").replace(" ", "\\ ")
    before = conninfo_to_dict(dsn).get("options") or ""
    return make_conninfo(dsn, options=f"{before} -csearch_path={escaped}".strip())


def _begun(connection: Connection, shadow: Shadow, log: LogIdentity) -> Plan | None:
    """The plan of an earlier run; None if there is none that got so far, or if it was another
    program's, or of another log."""
    if connection.execute("SELECT to_regclass(format('%%I.rebuild', %s::text))", (shadow.name,)).fetchone() == (None,):
        return None
    rows = connection.execute(
        sql.SQL("SELECT starts, kept_before, horizon_days, program, cluster_id, topic_id FROM {}.rebuild").format(
            sql.Identifier(shadow.name)
        )
    ).fetchall()
    for starts, kept_before, horizon_days, *of in rows:
        if of == [__version__, log.cluster_id, log.topic_id]:
            return Plan({int(partition): start for partition, start in starts.items()}, kept_before, horizon_days)
    return None


def _can_go_on(connection: Connection, shadow: Shadow, begun: Plan, log_starts: Mapping[int, int]) -> bool:
    counted = progress(connection, replace(shadow, plan=begun))
    return (
        begun.horizon_days == shadow.plan.horizon_days
        and begun.starts.keys() == shadow.plan.starts.keys()
        and all(offset >= log_starts[partition] for partition, offset in counted.items())
    )


def progress(connection: Connection, shadow: Shadow) -> dict[int, int]:
    """By partition of its plan, up to which offset it is counted."""
    rows = dict(
        connection.execute(
            sql.SQL("SELECT partition, next_offset FROM {}.checkpoints").format(sql.Identifier(shadow.name))
        ).fetchall()
    )
    return {partition: rows.get(partition, start) for partition, start in shadow.plan.starts.items()}


def _create(connection: Connection, shadow: Shadow, deadline: Deadline) -> None:
    name = sql.Identifier(shadow.name)
    try:
        with connection.transaction():
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
            connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(name, sql.Literal(shadow.mark)))
    except errors.InsufficientPrivilege:
        raise Stop(
            ExitCode.DEPENDENCY,
            f"rebuilding needs a second schema, {shadow.name}, which this role may not create: GRANT CREATE ON "
            "DATABASE to it for as long as it takes",
        ) from None
    migrate(shadow.dsn, deadline)


def _begin(connection: Connection, shadow: Shadow, log: LogIdentity) -> None:
    """All or nothing: without the row of `rebuild` the next run begins anew."""
    names = {"shadow": sql.Identifier(shadow.name), "live": sql.Identifier(shadow.live)}
    plan = shadow.plan
    with connection.transaction():
        connection.execute(
            sql.SQL(
                "UPDATE {shadow}.installation AS fresh SET hash_seed = old.hash_seed FROM {live}.installation AS old"
            ).format(**names)
        )
        if plan.kept_before is not None:
            connection.execute(
                sql.SQL(
                    "SELECT {shadow}.create_key_day(to_date(right(relname, 8), 'YYYYMMDD')) FROM pg_inherits"
                    " JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = to_regclass('seen_calls')"
                ).format(**names)
            )
            arguments = {"partitions": list(plan.starts), "starts": list(plan.starts.values())}
            for table in ("seen_calls", "seen_calls_untimed"):
                columns = sql.SQL(_OLD_KEYS).format(**names, table=sql.Identifier(table))
                connection.execute(columns, arguments)
        connection.execute(
            sql.SQL(
                "CREATE TABLE {shadow}.rebuild AS SELECT %(cluster_id)s::text AS cluster_id,"
                " %(topic_id)s::text AS topic_id, %(starts)s::jsonb AS starts,"
                " %(kept_before)s::timestamptz AS kept_before, %(horizon_days)s::integer AS horizon_days,"
                " %(program)s::text AS program"
            ).format(**names),
            {
                "cluster_id": log.cluster_id,
                "topic_id": log.topic_id,
                "starts": _json(plan.starts),
                "kept_before": plan.kept_before,
                "horizon_days": plan.horizon_days,
                "program": __version__,
            },
        )


def _json(starts: Mapping[int, int]) -> str:
    return "{" + ", ".join(f'"{partition}": {start}' for partition, start in starts.items()) + "}"
