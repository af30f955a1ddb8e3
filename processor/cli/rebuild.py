"""`call-processor rebuild`: totals and dedupe keys made anew from the log."""

import datetime as dt
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import Progress

from processor import config
from processor.audit.coverage import missing
from processor.audit.rebuild import Rebuild
from processor.audit.walk import walk
from processor.cli.answering import answering
from processor.cli.log import log_of, topics_of
from processor.codec.columns import NativeFailure
from processor.config import Settings
from processor.deadline import Deadline
from processor.errors import ExitCode, Stop
from processor.kafka.log_reader import LogReader
from processor.kafka.properties import connection_properties
from processor.ledger import Baseline, Snapshot
from processor.limits import WORKER_AHEAD_HOURS
from processor.sinks.base import LogIdentity
from processor.sinks.postgres.ledger import PostgresLedger
from processor.sinks.postgres.shadow import Plan, open_shadow
from processor.sinks.postgres.swap import Changes, swap
from processor.sinks.postgres.write import PostgresSink
from processor.worker.decode import Decoder

SWAP_S: Final = 600.0  # workers wait behind the fence: it is given up then
CLOSE_ENOUGH: Final = 20_000  # offsets that are counted behind the fence
ROUNDS: Final = 10
DEADLINE_S: Final = 3600.0


def run(
    keep_uncovered: Annotated[
        bool,
        typer.Option("--keep-uncovered", help="Leave hours as they are whose calls the log may no longer all have."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which rows would change.")] = False,
) -> None:
    """Count the log again into fresh tables, then put them in the place of the live ones. Workers go on; a run that
    was interrupted is gone on with."""
    settings = config.load()
    with answering("KAFKA__BOOTSTRAP_SERVERS and POSTGRES__DSN"):
        changes = _rebuild(settings, keep_uncovered=keep_uncovered, dry_run=dry_run)
    for table, rows in changes.items():
        typer.echo(f"{table}: {rows.added:,} rows added, {rows.changed:,} changed, {rows.removed:,} removed")
    typer.echo("nothing was changed: a dry run" if dry_run else "the totals are what the log says")


def _rebuild(settings: Settings, *, keep_uncovered: bool, dry_run: bool) -> Mapping[str, Changes]:
    identity = log_of(settings, topics_of(settings))
    connection = connection_properties(settings.kafka, settings.bootstrap_servers())
    with closing(LogReader(connection, settings.kafka.group, settings.kafka.topic)) as reader:
        plan, log_starts = _plan(settings, identity, reader, keep_uncovered=keep_uncovered)
        shadow = open_shadow(settings.dsn(), identity, plan, log_starts, Deadline.after(DEADLINE_S))
        with (
            closing(PostgresSink(lambda: shadow.dsn, identity)) as sink,
            Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress,
        ):
            rebuild = Rebuild(sink, _decoder(settings), shadow.plan.starts, time.monotonic)
            bar = progress.add_task("counting the log again", total=None)

            def catch_up(ends: Mapping[int, int]) -> None:
                rebuild.count(reader, ends, lambda passed: progress.advance(bar, passed))

            _come_close(settings, identity, rebuild, catch_up)
            return swap(settings.dsn(), identity, shadow, catch_up, Deadline.after(SWAP_S), keep=not dry_run)


def _plan(
    settings: Settings, identity: LogIdentity, reader: LogReader, *, keep_uncovered: bool
) -> tuple[Plan, dict[int, int]]:
    """What can be counted again, and where the log begins now. `Stop` if hours would be lost."""
    place = identity.cluster_id, identity.topic_id
    with closing(PostgresLedger(settings.dsn)) as ledger, ledger.snapshot() as snapshot:
        others = {of[1] for of in snapshot.decided if of[:2] != place}
        if others:
            raise Stop(
                ExitCode.PROTECT_NUMBERS,
                f"the totals hold calls of other topics too (ids {', '.join(sorted(others))}): nothing was changed",
            )
        bounds = reader.bounds(of[2] for of in snapshot.decided)
        lost = list(missing(snapshot, Baseline(None, None, {}), place, bounds))
        if snapshot.adopted_at is not None:
            lost.append("the totals hold calls of a log that was given up")
        if lost and not keep_uncovered:
            raise Stop(
                ExitCode.PROTECT_NUMBERS,
                "; ".join(lost)
                + ": counting again would lose them; --keep-uncovered leaves the hours as they are that "
                "they may belong to",
            )
        starts = {of[2]: max(begins, bounds[of[2]][0]) for of, begins in snapshot.begins.items()}
        kept_before = _kept_before(reader, snapshot, starts, bounds) if lost else None
        plan = Plan(starts, kept_before, settings.worker.dedupe_horizon_days)
        return plan, {partition: start for partition, (start, _) in bounds.items()}


def _kept_before(
    reader: LogReader, snapshot: Snapshot, starts: Mapping[int, int], bounds: Mapping[int, tuple[int, int]]
) -> dt.datetime:
    """The first hour of which the log has every record: one that is gone came before those that are there, and its call
    ended at most 25 h after it."""
    newest = snapshot.adopted_at or dt.datetime.min.replace(tzinfo=dt.UTC)
    for (_, _, partition), begins in snapshot.begins.items():
        if starts[partition] > begins:
            newest = max(newest, _time_of_first(reader, partition, *bounds[partition]))
    end = newest + dt.timedelta(hours=WORKER_AHEAD_HOURS)
    return end.replace(minute=0, second=0, microsecond=0) + dt.timedelta(hours=2)  # one more: brokers' clocks differ


def _time_of_first(reader: LogReader, partition: int, start: int, end: int) -> dt.datetime:
    for passages in walk(reader, {partition: start}, {partition: end}, time.monotonic):
        for record in (record for passage in passages for record in passage.records):
            return dt.datetime.fromtimestamp(record.timestamp()[1] / 1000, dt.UTC)
    return dt.datetime.now(dt.UTC)


def _come_close(
    settings: Settings, identity: LogIdentity, rebuild: Rebuild, catch_up: Callable[[Mapping[int, int]], object]
) -> None:
    """So that little is left to be counted while workers wait."""
    for _ in range(ROUNDS):
        with closing(PostgresLedger(settings.dsn)) as ledger, ledger.snapshot() as snapshot:
            ends = {of[2]: decided.to for of, decided in snapshot.decided.items() if of[1] == identity.topic_id}
        left = sum(ends.get(partition, 0) - offset for partition, offset in rebuild.next_offsets.items())
        catch_up(ends)
        if left < CLOSE_ENOUGH:
            return


def _decoder(settings: Settings) -> Decoder:
    def native_failure(failure: NativeFailure) -> None:
        typer.echo(f"a batch is decoded row by row: {failure}", err=True)

    return Decoder(settings.worker.dedupe_horizon_days, native_failure)
