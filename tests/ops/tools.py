"""Programs that Debian has: a test that needs one fails with the line that installs it."""

import shutil
import subprocess
from pathlib import Path

import pytest


def program(name: str) -> str:
    """Its path."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing: apt-get install -y --no-install-recommends prometheus")
    return found


def promtool(*arguments: str | Path, stdin: bytes = b"") -> str:
    """What it says, if it agrees."""
    ended = subprocess.run(
        [program("promtool"), *arguments], input=stdin, capture_output=True, timeout=120, check=False
    )
    said = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 0, said
    return said
