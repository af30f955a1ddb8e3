"""`make fuzz ARGS="--bodies 1000000 --records 1000000"`: one run and its figures; exit code 1 if a fault was found."""

import sys
import tempfile
from pathlib import Path
from random import SystemRandom
from typing import Annotated

import typer

from tests.fuzz.campaign import Size, campaign
from tests.stack import embedded_servers, installed


def main(
    bodies: Annotated[int, typer.Option(min=1, help="How many requests are sent to the door.")] = 50_000,
    records: Annotated[int, typer.Option(min=2, help="How many records are put on the topic.")] = 50_000,
    seed: Annotated[int | None, typer.Option(help="That of a run that is to be repeated.")] = None,
) -> None:
    """Mutated requests at a live door, mutated records at a live worker."""
    if seed is None:
        seed = SystemRandom().getrandbits(32)
    sys.stdout.write(f"seed {seed}\n")
    with tempfile.TemporaryDirectory() as folder, embedded_servers(Path(folder) / "stack") as servers:
        place = Path(folder) / "run"
        place.mkdir()
        with installed(servers, place) as installation:
            report = campaign(installation, seed, Size(bodies, records))
    sys.stdout.write("\n".join(report.lines()) + "\n")
    sys.exit(1 if report.faults else 0)


if __name__ == "__main__":
    typer.run(main)
