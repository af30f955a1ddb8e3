"""`call-processor status`: how far the log is counted, by whom, and whether anything is missing."""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from processor import config
from processor.cli.answering import answering
from processor.cli.log import topics_of
from processor.config import Settings
from processor.deadline import Deadline
from processor.errors import Unavailable
from processor.sinks.postgres.read import PartitionStatus, read_status

DEADLINE_S: Final = 20.0


def run(as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False) -> None:
    """Per partition owner, lag and counters; dead letters by reason. Lag is unknown while no broker answers.

    OWNER is the worker's session with PostgreSQL: the address it comes from, and the pid of the server's own process
    for it (`pg_stat_activity.pid`), not the worker's pid.
    """
    settings = config.load()
    with answering():
        rows = read_status(settings.dsn(), settings.kafka.topic, Deadline.after(DEADLINE_S))
    ends = _log_ends(settings)
    partitions = [_partition(row, ends, datetime.now(UTC)) for row in rows]
    letters: Counter[str] = sum((Counter(row.dead_letters) for row in rows), Counter())
    if as_json:
        typer.echo(json.dumps({"topic": settings.kafka.topic, "partitions": partitions, "dead_letters": letters}))
    elif not rows:
        typer.echo(f"no worker has taken a partition of {settings.kafka.topic} yet")
    else:
        Console(width=None if sys.stdout.isatty() else 200).print(_table(partitions))
        told = ", ".join(f"{reason} {count:,}" for reason, count in sorted(letters.items()))
        typer.echo(f"dead letters: {told or 'none'}")
        typer.echo(f"unaccounted records: {sum(row.unaccounted for row in rows):,} (0 is right)")


def _log_ends(settings: Settings) -> Mapping[int, int]:
    """Nothing, with a word on stderr, if no broker tells."""
    try:
        return topics_of(settings).end_offsets(settings.kafka.topic)
    except Unavailable as error:
        typer.echo(f"lag is unknown: {error}", err=True)
        return {}


def _partition(row: PartitionStatus, ends: Mapping[int, int], now: datetime) -> dict[str, Any]:
    end = ends.get(row.partition)
    lag = None if end is None else max(0, end - row.next_offset)
    return {
        **{name: value for name, value in asdict(row).items() if name != "dead_letters"},
        "record_time": _text(row.record_time),
        "updated_at": _text(row.updated_at),
        "lag_records": lag,
        # Since the last record that was counted: no more than this is the oldest one waiting.
        "lag_seconds": None if lag is None else _age_s(row, now) if lag else 0.0,
    }


def _age_s(row: PartitionStatus, now: datetime) -> float | None:
    return None if row.record_time is None else round((now - row.record_time).total_seconds(), 1)


def _text(time: datetime | None) -> str | None:
    return None if time is None else f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


_COLUMNS: Final = {
    "PARTITION": "partition", "OWNER": "owner", "EPOCH": "epoch", "NEXT OFFSET": "next_offset", "LAG": "lag_records",
    "LAG s": "lag_seconds", "LAST WRITE": "updated_at", "COUNTED": "counted", "DUPLICATES": "duplicates",
    "CONFLICTS": "conflicts", "DEAD LETTERS": "dead_lettered", "SKIPPED": "skipped", "GAPS": "gap_offsets",
    "UNACCOUNTED": "unaccounted",
}  # fmt: skip


def _table(partitions: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in _COLUMNS:
        table.add_column(title, justify="left" if title in ("OWNER", "LAST WRITE") else "right")
    for partition in partitions:
        table.add_row(*(_shown(partition[name]) for name in _COLUMNS.values()))
    return table


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
