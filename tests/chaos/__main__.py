"""make chaos ARGS="--events 1000000 --faults 100 --seed 1" """

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tests.chaos.document import put
from tests.chaos.faults import KINDS
from tests.chaos.run import Plan, run
from tests.chaos.schedule import schedule
from tests.group import PROTOCOLS


def main(
    events: Annotated[int, typer.Option(min=1, help="Posts of clients, repeats and bad ones among them.")] = 20_000,
    faults: Annotated[int, typer.Option(min=0, help="How many faults happen meanwhile.")] = 8,
    seed: Annotated[int, typer.Option(help="Decides posts, faults and their moments.")] = 1,
    group_protocol: Annotated[str, typer.Option(help="classic, or consumer (KIP-848).")] = PROTOCOLS[0],
    json: Annotated[Path | None, typer.Option(help="A file for the report as JSON.")] = None,
    into: Annotated[
        Path | None, typer.Option(help="A document that has a place for the report of this very command.")
    ] = None,
    keep: Annotated[bool, typer.Option(help="Keep the servers' state and all logs.")] = False,
) -> None:
    """Calls are posted while everything breaks; in the end every number is compared. Exit code 1 if one is wrong."""
    if group_protocol not in PROTOCOLS:
        raise typer.BadParameter(f"one of {', '.join(PROTOCOLS)}", param_hint="--group-protocol")
    command = f'make chaos ARGS="--events {events} --faults {faults} --seed {seed}'
    command += '"' if group_protocol == PROTOCOLS[0] else f' --group-protocol {group_protocol}"'
    if into is not None:
        put(into, command, "running")  # fails now rather than in half an hour
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    report = run(
        Plan(command, seed, events, schedule(seed, faults, KINDS), group_protocol),
        folder,
        say=lambda line: typer.echo(line, err=True),
    )
    typer.echo(report.to_text())
    if json is not None:
        json.write_text(report.to_json() + "\n", encoding="utf-8")
    if into is not None:
        put(into, command, report.to_text())
    if report.problems or keep:
        typer.echo(f"logs and state: {folder}", err=True)
    else:
        shutil.rmtree(folder)
    sys.exit(bool(report.problems))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
