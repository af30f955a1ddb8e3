"""Ctrl-C at any moment of the demo leaves no process, no port, and no state that the next start cannot use."""

import os
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from processor.deadline import Deadline
from tests.stack import MARK, Late, processes_marked

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

# What is on the screen when Ctrl-C is pressed; None: at once.
MOMENTS = [
    None,
    "formatting",
    "creating a cluster",
    "PostgreSQL: embedded",
    "llm-call-end: ",
    "llm-call-end.dlq: ",
    "| workers 2",
    "sent ",
    "duplicates ",
    "try: ",
]
SHORT = ["formatting", "creating a cluster", "| workers 2"]


def demo(folder: Path, name: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "processor", "demo", "--calls", "300", *options],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], MARK: name},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def interrupt_at(moment: str | None, folder: Path) -> None:
    name = f"interrupt-{uuid.uuid4().hex}"
    with demo(folder, name) as process:
        assert process.stdout is not None
        shown = []
        for line in process.stdout if moment is not None else ():
            shown.append(line)
            if moment is not None and moment in line:
                break
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert moment is None or moment in "".join(shown), "".join(shown)
    assert process.returncode in (0, 130, -signal.SIGINT), "".join(shown) + rest
    assert "Traceback" not in "".join(shown) + rest or moment is None, "".join(shown) + rest
    assert not processes_marked(name)
    assert port_is_free(8080) or os.environ.get("CI") is None


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def go_through(moments: list[str | None], folder: Path) -> None:
    """One after the other on one state: each start meets what the interrupted one has left; then a whole run."""
    deadline = Deadline.after(380)
    for moment in moments:
        interrupt_at(moment, folder)
        if deadline.passed():
            raise Late(f"after 380 s only before the moment {moment}")
    with demo(folder, "whole", "--once") as whole:
        printed, _ = whole.communicate(timeout=90)
    assert whole.returncode == 0, printed
    assert "OK  stored totals equal what was sent" in printed


def test_ctrl_c_at_three_moments_leaves_nothing_and_the_next_start_works(tmp_path: Path) -> None:
    go_through([*SHORT], tmp_path)


@pytest.mark.long
def test_ctrl_c_at_ten_moments_leaves_nothing_and_the_next_start_works(tmp_path: Path) -> None:
    go_through([*MOMENTS], tmp_path)
