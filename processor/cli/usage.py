"""`call-processor usage`: the totals, for people and for programs."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from processor import config
from processor.cli.answering import answering
from processor.cli.printable import printable
from processor.cli.project import require_project
from processor.deadline import Deadline
from processor.errors import ExitCode, Stop
from processor.sinks.postgres.read import VIEWS, By, Query, Row, Totals, read_totals

DEADLINE_S: Final = 60.0
MANY_ROWS: Final = 50
EMPTY: Final = '""'


class View(StrEnum):
    """posted: the literal sum of what clients posted. leaf: only calls that stand for themselves."""

    POSTED = "posted"
    LEAF = "leaf"


def run(
    project: Annotated[str | None, typer.Option(help="Only this project, entity/project; no wildcards.")] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="First hour: 2026-01-31 or 2026-01-31T08:00Z; UTC, on the hour.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="End, itself not included; UTC, on the hour.")] = None,
    by: Annotated[
        By,
        typer.Option(
            help="One row for each of these. A day or month that --from or --to cuts is shown under its own start, "
            "with the part that was asked for."
        ),
    ] = By.HOUR,
    view: Annotated[View | None, typer.Option(help="Only this view, with all its numbers.")] = None,
    outcomes: Annotated[bool, typer.Option("--outcomes", help="Calls by outcome instead of usage.")] = False,
    statuses: Annotated[bool, typer.Option("--statuses", help="Status counts instead of usage.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV with a header.")] = False,
) -> None:
    """Totals per project, time and model: as posted, and of leaf calls only. Hours are UTC, by `ended_at`.

    TOKENS is the sum of `total_tokens` as clients post it, and nothing else: of a client that posts input_tokens and
    output_tokens alone it is 0. --view, --json and --csv show all eight counts. CALLS is the number of calls as
    posted, with those that only repeat their children; a call that names two models is in both rows. A model "" was
    posted with an empty name; calls without usage are in --outcomes only.
    """
    for one, other, both in (("outcomes", "statuses", outcomes and statuses), ("json", "csv", as_json and as_csv)):
        if both:
            raise Stop(ExitCode.USAGE, f"--{one} and --{other} exclude each other: give one")
    if project is not None:
        require_project(project)
    query = Query(
        totals=Totals.OUTCOMES if outcomes else Totals.STATUSES if statuses else Totals.USAGE,
        by=by,
        project=project,
        since=_time("--from", since),
        until=_time("--to", until),
    )
    if query.since and query.until and query.since >= query.until:
        raise Stop(ExitCode.USAGE, f"--from {since} is not before --to {until}: turn them round")
    with answering():
        rows = read_totals(config.load().dsn(), query, Deadline.after(DEADLINE_S))
    if not rows:
        typer.echo(_nothing(query), err=as_json or as_csv)
    if as_json:
        typer.echo(json.dumps([_as_json(row, query, view) for row in rows], ensure_ascii=False))
    elif as_csv:
        _write_csv(rows, query, view)
    elif rows:
        Console(width=None if sys.stdout.isatty() else 200).print(_table(rows, query, view))
        for hint in _hints(rows, query):
            typer.echo(f"hint: {hint}", err=True)


def _time(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise Stop(ExitCode.USAGE, f"{option} {text} is no time: write 2026-01-31 or 2026-01-31T08:00Z") from None
    time = (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    if time != time.replace(minute=0, second=0, microsecond=0):
        raise Stop(
            ExitCode.USAGE,
            f"{option} {text} lies within an hour, and totals are kept by the hour, in UTC: "
            f"write {time:%Y-%m-%dT%H:00Z}, or the hour after it",
        )
    return time


def _nothing(query: Query) -> str:
    where = "" if query.project is None else f" of project {query.project}"
    when = "" if query.since is None and query.until is None else " in this time"
    wildcards = " (there are no wildcards)" if "*" in (query.project or "") else ""
    return f"no calls{where} are counted{when}{'' if where or when else ' yet'}{wildcards}"


def _hints(rows: Sequence[Row], query: Query) -> Iterator[str]:
    """What somebody who bills by this table must know of it."""
    if query.by is By.HOUR and len(rows) > MANY_ROWS:
        yield f"{len(rows):,} rows, one for each hour: --by day, month or total makes fewer"
    if query.totals is Totals.USAGE and (without := [row for row in rows if _lacks_totals(row)]):
        first = f"{without[0].project_id} {without[0].name or EMPTY}"
        yield (
            f"in {len(without):,} of {len(rows):,} rows (first {first}) TOKENS is less than prompt, input, completion "
            "and output tokens add up to: some calls were posted without total_tokens, or name a count twice; see "
            "--view posted, and docs/sql.md, which tokens are summed"
        )


def _lacks_totals(row: Row) -> bool:
    parts = ("prompt_tokens", "input_tokens", "completion_tokens", "output_tokens")
    return row.posted["total_tokens"] < sum(row.posted[part] for part in parts)


def _key(row: Row, query: Query) -> dict[str, str]:
    """What the row stands for."""
    key = {"project_id": row.project_id}
    if row.start is not None:
        key[query.by.value] = f"{row.start:%Y-%m-%dT%H:%M:%SZ}"
    return {**key, VIEWS[query.totals][1]: row.name}


def _numbers(row: Row, view: View | None) -> dict[str, dict[str, int]]:
    return {name: numbers for name, numbers in (("posted", row.posted), ("leaf", row.leaf)) if view in (None, name)}


def _as_json(row: Row, query: Query, view: View | None) -> dict[str, object]:
    return {**_key(row, query), **_numbers(row, view)}


def _flat(row: Row, query: Query, view: View | None) -> dict[str, str | int]:
    """As the columns of the SQL views are named."""
    numbers = {f"{name}_{kind}": n for kind, named in _numbers(row, view).items() for name, n in named.items()}
    return {**_key(row, query), **numbers}


def _write_csv(rows: Sequence[Row], query: Query, view: View | None) -> None:
    kinds = ("posted", "leaf") if view is None else (view.value,)
    key, numbers = VIEWS[query.totals][1:]
    time = [] if query.by is By.TOTAL else [query.by.value]
    header = ["project_id", *time, key, *(f"{number}_{kind}" for kind in kinds for number in numbers)]
    writer = csv.DictWriter(sys.stdout, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat(row, query, view) for row in rows)


def _table(rows: Sequence[Row], query: Query, view: View | None) -> Table:
    keys = len(_key(rows[0], query))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for at, (title, _) in enumerate(_columns(rows[0], query, view)):
        table.add_column(title, justify="left" if at < keys else "right")
    for row in rows:
        # A client's name must be read neither as markup, nor by the terminal as a command.
        table.add_row(*(Text(printable(shown)) for _, shown in _columns(row, query, view)))
    return table


def _columns(row: Row, query: Query, view: View | None) -> Iterator[tuple[str, str]]:
    """Title and text of each cell."""
    for title, text in _key(row, query).items():
        yield title.removesuffix("_id").upper(), text or EMPTY
    if view is not None:
        for name, number in _numbers(row, view)[view].items():
            yield name, f"{number:,}"
        return
    if query.totals is Totals.USAGE:
        yield "CALLS", f"{row.posted['calls']:,}"
    name, title = {Totals.USAGE: ("total_tokens", "TOKENS"), Totals.STATUSES: ("count", "COUNT")}.get(
        query.totals, ("calls", "CALLS")
    )
    yield f"{title} leaf", f"{row.leaf[name]:,}"
    yield f"{title} as posted", f"{row.posted[name]:,}"
