"""`call-processor checkpoints`: how far which log is counted; going on at another offset, or with another log."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from processor import config
from processor.cli.answering import answering
from processor.cli.log import log_of, topics_of
from processor.deadline import Deadline
from processor.errors import ExitCode, Stop
from processor.sinks.postgres.move import Move, move
from processor.sinks.postgres.operate import Offsets, StoredCheckpoint, adopt, all_checkpoints

DEADLINE_S = 20.0
ADOPT_DEADLINE_S = 600.0  # the keys of a log that is given up are marked, one by one

run = typer.Typer(help="Show how far the log is counted; move a checkpoint; adopt a log.", invoke_without_command=True)


@run.callback()
def show(context: typer.Context) -> None:
    """One row a partition: the log that it belongs to, the next offset, a tripped breaker."""
    if context.invoked_subcommand is None:
        show_all()


@run.command("show")
def show_all() -> None:
    """One row a partition: the log that it belongs to, the next offset, a tripped breaker."""
    with answering():
        rows = all_checkpoints(config.load().dsn(), Deadline.after(DEADLINE_S))
    _console().print(_table(rows)) if rows else typer.echo("no partition was ever taken")


@run.command("set")
def set_offset(
    partition: Annotated[int, typer.Option(min=0, help="Of the topic of these settings.")],
    offset: Annotated[int, typer.Option(min=0, help="The next one to be counted.")],
    sure: Annotated[bool, typer.Option("--sure", help="Do it; without, only say what it would mean.")] = False,
) -> None:
    """Go on counting a partition at another offset. All workers must be stopped."""
    settings = config.load()
    with answering("KAFKA__BOOTSTRAP_SERVERS"):
        topics = topics_of(settings)
        log, bounds = log_of(settings, topics), topics.bounds(settings.kafka.topic)
    if partition not in bounds:
        raise Stop(ExitCode.USAGE, f"{settings.kafka.topic} has the partitions 0 to {len(bounds) - 1}: choose one")
    with answering():
        moved = move(settings.dsn(), log, partition, offset, bounds[partition], Deadline.after(DEADLINE_S), do=sure)
    typer.echo(_consequences(partition, moved))
    if not sure:
        raise Stop(ExitCode.USAGE, "nothing was changed: give --sure if that is what you want")
    typer.echo(f"partition {partition} goes on at offset {offset}")


def _consequences(partition: int, moved: Move) -> str:
    """What becomes of the records between the two offsets."""
    count = abs(moved.will_be - moved.was)
    if moved.will_be > moved.was:
        return (
            f"the {count:,} offsets from {moved.was} up to {moved.will_be} of partition {partition} are passed over: "
            "calls that stand only there are in no total, and nothing but this command will ever count them"
        )
    return (
        f"the {count:,} offsets from {moved.will_be} up to {moved.was} of partition {partition} are read again: calls "
        "that were counted are duplicates, calls that were not (a fixed defect) are counted now, records that cannot "
        f"be counted become dead letters a second time, and so do calls whose key may be gone (of before "
        f"{moved.key_floor}). No call is counted twice. The counters of the partition begin anew."
    )


@run.command("adopt")
def adopt_log(
    offsets: Annotated[
        Offsets | None,
        typer.Option(
            help="If the log is another one. keep: it is the same record by record, as a copied cluster. "
            "restart: begin at its start; calls counted before are duplicates, as far as the dedupe horizon reaches."
        ),
    ] = None,
) -> None:
    """Go on with the topic and group of these settings, although the totals were counted from others."""
    settings = config.load()
    with answering("KAFKA__BOOTSTRAP_SERVERS"):
        log = log_of(settings, topics_of(settings))
    with answering():
        before = adopt(settings.dsn(), log, offsets, Deadline.after(ADOPT_DEADLINE_S))
    if not before:
        typer.echo("these checkpoints are those of this log and group: nothing to do")
        return
    _console().print(_table(before))
    typer.echo(f"adopted by topic id {log.topic_id} of cluster {log.cluster_id}, group {log.consumer_group}")


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 200)


def _table(rows: list[StoredCheckpoint]) -> Table:
    titles = ("TOPIC", "PARTITION", "GROUP", "CLUSTER", "TOPIC ID", "EPOCH", "NEXT OFFSET", "BREAKER")
    table = Table(*titles, box=None, pad_edge=False)
    for row in rows:
        tripped = "" if row.breaker_tripped_at is None else f"tripped at {row.breaker_tripped_at}"
        place = (row.topic, str(row.partition), row.consumer_group, row.cluster_id, row.topic_id)
        table.add_row(*place, str(row.epoch), str(row.next_offset), tripped)
    return table
