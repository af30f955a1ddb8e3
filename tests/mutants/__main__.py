"""make mutants: the proof can fail. Each guard of the protocol is taken away, one at a time, and the law that it keeps
must be found broken; with all guards in place each proof must find nothing.

A mutant is a copy of the program and its tests in which some text is replaced; no file here is touched.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from tests.mutants.mutations import MODEL, MUTATIONS, REPEATS, Mutation

ROOT: Final = Path(__file__).parents[2]
WITHIN_S: Final = 600
SHOWN: Final = 120  # of what was said
PYTEST: Final = ("pytest", "-q", "-p", "no:cacheprovider", "--timeout=600")
COMMANDS: Final = {
    MODEL: (*PYTEST, "-k", "postgresql", "tests/contract/test_sink_machine.py"),
    REPEATS: (*PYTEST, "tests/contract/test_dedupe.py"),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`good`: a mutant was caught by the law that it breaks, or nothing was found where nothing is wrong."""

    good: bool
    found: str
    seconds: float


def main(only: Annotated[str, typer.Option(help="A word of the guards to take away.")] = "") -> None:
    """Take away each guard of the protocol, and see that the proof notices. Exit code 1 if it does not once."""
    chosen = [mutation for mutation in MUTATIONS if only in mutation.guard]
    verdicts = []
    for proof in dict.fromkeys(mutation.proof for mutation in chosen):
        verdicts.append(show("none", proof, judge(None, proof)))
        verdicts += [show(one.guard, proof, judge(one, proof)) for one in chosen if one.proof == proof]
    sys.exit(not all(verdicts))


def show(guard: str, proof: str, verdict: Verdict) -> bool:
    outcome = ("caught" if guard != "none" else "quiet") if verdict.good else "WRONG"
    typer.echo(f"{guard:32} {proof:22} {outcome:7} {verdict.seconds:4.0f} s  {verdict.found[:SHOWN]}")
    return verdict.good


def judge(mutation: Mutation | None, proof: str) -> Verdict:
    began_s = time.monotonic()
    with copy(mutation) as tree:
        command = COMMANDS.get(proof, ("tests.mutants.scenario", proof))
        ended = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tree, env={**os.environ, "HYPOTHESIS_PROFILE": "mutants"}, capture_output=True, text=True,
            timeout=WITHIN_S, check=False,
        )  # fmt: skip
    seconds = time.monotonic() - began_s
    if mutation is None:
        return Verdict(ended.returncode == 0, _last(ended) if ended.returncode else "", seconds)
    found = next((line.lstrip("E> ") for line in ended.stdout.splitlines() if mutation.says in line), None)
    return Verdict(ended.returncode == 1 and found is not None, found or _last(ended), seconds)


def _last(ended: "subprocess.CompletedProcess[str]") -> str:
    return next(reversed((ended.stdout + ended.stderr).strip().splitlines()), "nothing was said")


@contextmanager
def copy(mutation: Mutation | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        tree = Path(folder)
        for name in ("processor", "schemas", "tests", "bench"):
            shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        for edit in mutation.edits if mutation else ():
            edit.apply(tree / "processor")
        yield tree


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
