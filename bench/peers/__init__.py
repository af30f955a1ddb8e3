"""What users would run instead. Each is a program of its own, written as its library's documentation shows it, and
counts by itself; those that need other versions of libraries than we do run in an environment of their own.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from processor import child

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv" / "peers" / "bin" / "python"


class Peer(child.Child):
    """`python <script> <arguments>`; what it says is in a log in `folder`."""

    def __init__(self, script: str, *arguments: str, folder: Path, python: str = sys.executable) -> None:
        self.name = script
        self._command = [python, str(Path(__file__).with_name(f"{script}.py")), *arguments]
        self._log = folder / f"{script}.log"

    def launch(self) -> None:
        with self._log.open("ab") as output:
            self._process = child.spawn(self._command, output=output)

    def assert_runs(self) -> None:
        assert self.poll() is None, f"{self.name} ended with {self.poll()}:\n{self._log.read_text()[-2000:]}"


@cache
def python() -> str:
    """That of the environment with the other libraries, which is made if it is missing."""
    subprocess.run(["make", "--silent", ".venv/.peers"], cwd=ROOT, check=True, stdout=sys.stderr)  # noqa: S607
    return str(PYTHON)


@cache
def _installed() -> dict[str, str]:
    command: Sequence[str] = [str(PYTHON), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {one["name"]: one["version"] for one in json.loads(listed)}


def version(name: str) -> str:
    return _installed().get(name, "not installed") if PYTHON.exists() else "not installed"
