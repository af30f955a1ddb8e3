"""`call-processor verify`: count the log again and compare it with the totals, row by row."""

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from processor import config
from processor.audit.coverage import Coverage, cover
from processor.audit.recount import Recount
from processor.audit.runs import Sums, added_up, spool
from processor.audit.verify import Compared, counter_differences, differences, refuse_if_nothing_was_compared
from processor.audit.walk import walk
from processor.cli.answering import answering
from processor.cli.log import log_of, topics_of
from processor.cli.project import require_project
from processor.cli.verify_report import JsonReport, TextReport
from processor.errors import ExitCode
from processor.kafka.log_reader import LogReader
from processor.kafka.properties import connection_properties
from processor.ledger import Row
from processor.sinks.postgres.ledger import PostgresLedger


def run(
    project: Annotated[
        str | None, typer.Option(help="Compare only this project, entity/project; no wildcards.")
    ] = None,
    conflicts: Annotated[bool, typer.Option("--conflicts", help="List repeats whose content differs, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Count the log again beside the workers, and compare every row of the totals. Exit code 1: some differ; 2: nobody
    has heard of the project; 3: nothing could be checked.
    """
    if project is not None:
        require_project(project)
    out = JsonReport() if as_json else TextReport()
    with answering("KAFKA__BOOTSTRAP_SERVERS and POSTGRES__DSN"):
        _verify(config.load(), project, out, conflicts)
    out.end()
    if out.differ:
        raise typer.Exit(ExitCode.NUMBERS_DIFFER)


def _verify(settings: config.Settings, project: str | None, out: TextReport | JsonReport, conflicts: bool) -> None:
    log = log_of(settings, topics_of(settings))
    place = log.cluster_id, log.topic_id
    connection = connection_properties(settings.kafka, settings.bootstrap_servers())
    with (
        closing(PostgresLedger(settings.dsn)) as ledger,
        closing(LogReader(connection, settings.kafka.group, settings.kafka.topic)) as reader,
        tempfile.TemporaryDirectory() as folder,
    ):
        with ledger.snapshot() as snapshot:
            # A moment for all: workers go on, and what they count after it is not looked at.
            bounds = reader.bounds(of[2] for of in snapshot.decided if of[:2] == place)
            coverage = cover(snapshot, place, bounds)
            stored = spool(snapshot.rows(project), Path(folder) / "stored")
            number = coverage.baseline.number
            before = spool([] if number is None else snapshot.rows_of(number, project), Path(folder) / "before")
        recount = Recount(ledger, Sums(Path(folder)), project, out.conflict if conflicts else None)
        _count(reader, coverage, recount)
        ledger.require_unmoved(snapshot)
        compared = Compared()
        for difference in differences(stored, _together(before, recount), compared):
            out.difference(difference)
        if not out.differ:
            refuse_if_nothing_was_compared(compared, project)
        if project is None:
            for sentence in counter_differences(snapshot, coverage, place, recount):
                out.counter(sentence)
        out.summary(coverage, recount, compared)


def _count(reader: LogReader, coverage: Coverage, recount: Recount) -> None:
    offsets = sum(end - coverage.starts[partition] for partition, end in coverage.ends.items())
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("reading the log", total=offsets)
        for passages in walk(reader, coverage.starts, coverage.ends, time.monotonic):
            for passage in passages:
                recount.add(passage)
                progress.advance(bar, passage.end - passage.start)


def _together(before: Iterable[Row], recount: Recount) -> Iterator[Row]:
    return added_up(before, recount.sums.sorted())
