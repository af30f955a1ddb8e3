"""make bench ARGS="--only worker" """

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from bench import door, end_to_end, guard, machine, report, sizing, worker
from bench.place import Place, servers
from bench.report import Result, Say, Section

Scenarios = Callable[[Place, Say], list[Result]]
SECTIONS: Final[Mapping[str, tuple[str, Scenarios]]] = {
    "worker": (worker.TITLE, worker.measure),
    "door": (door.TITLE, door.measure),
    "end-to-end": ("End to end", end_to_end.measure),
}
LARGE: Final = ("Worker, large", worker.measure_large)


def main(
    only: Annotated[str, typer.Option(help=f"One section: {', '.join(SECTIONS)}.")] = "",
    large: Annotated[
        bool, typer.Option("--large", help="Instead: 20 million records, and one among 100 million keys, once.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Instead: a few ratios; exit code 1 if one is half of what was recorded.")
    ] = False,
    record: Annotated[bool, typer.Option("--record", help="With --quick: record the ratios.")] = False,
) -> None:
    """Measure the whole, beside what others run; results go to bench/RESULTS.md and bench/results.json."""
    if (only and only not in SECTIONS) or (record and not quick):
        raise typer.BadParameter(f"--only takes one of {', '.join(SECTIONS)}; --record belongs to --quick")
    if quick and only not in {"", *guard.PARTS}:
        raise typer.BadParameter(f"--quick has {', '.join(guard.PARTS)}")
    say = clock()
    command = f'make bench ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else "make bench"
    with place(say) as here:
        if quick:
            parts = {name: partial(part, here, say) for name, part in guard.PARTS.items() if only in {"", name}}
            sys.exit(guarded(parts, say, record=record))
        chosen = [LARGE] if large else [section for name, section in SECTIONS.items() if only in {"", name}]
        for title, measure in chosen:
            before = machine.calibration()
            began = datetime.now(UTC)
            results = measure(here, partial(_under, say, title))
            report.save(
                Section(
                    title, command, f"{began:%Y-%m-%d %H:%M} UTC", machine.describe(),
                    machine.versions({"Kafka": here.kafka.version, "PostgreSQL": here.postgres.version}),
                    (before, machine.calibration()), results,
                )
            )  # fmt: skip
            say(f"{title}: written to {report.DOCUMENT.name} and {report.RESULTS.name}")
    sections = report.load()
    if {worker.TITLE, door.TITLE} <= sections.keys():
        sizing.write(sections)


def guarded(parts: Mapping[str, Callable[[], guard.Ratios]], say: Say, *, record: bool) -> int:
    if record:
        for measure in parts.values():
            guard.record(measure())
        return 0
    collapses = guard.watch(parts, guard.read(), say)
    for collapse in collapses:
        say(f"COLLAPSED  {collapse}")
    return bool(collapses)


@contextmanager
def place(say: Say) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        say("starting Kafka and PostgreSQL")
        with servers(Path(folder)) as here:
            yield here


def clock() -> Say:
    began_s = time.monotonic()
    return lambda sentence: typer.echo(f"{time.monotonic() - began_s:6.0f} s  {sentence}", err=True)


def _under(say: Say, title: str, sentence: str) -> None:
    say(f"{title}: {sentence}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
