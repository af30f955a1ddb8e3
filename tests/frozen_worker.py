"""`call-processor worker`, whose first write stops in the middle until the file that it then makes is removed.

    python frozen_worker.py before|inside <file>

before: records are read and decoded, the transaction is not begun.
inside: the checkpoints' rows are locked, and COPY has got half of its data. It is the worst place, since no timeout of
        PostgreSQL ends the session.
"""

import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from unittest.mock import patch

import psycopg

from processor.cli import worker
from processor.cli.main import main
from processor.deadline import Deadline
from processor.sinks.base import Batch, Checkpoint, nothing
from processor.sinks.postgres.write import PostgresSink

MOMENT, FILE = sys.argv[1], Path(sys.argv[2])
COPY = psycopg.Copy.write
LOOK_EVERY_S = 0.02


class LateSink(PostgresSink):
    def write(self, batch: Batch, deadline: Deadline, meanwhile: Callable[[], None] = nothing) -> dict[int, Checkpoint]:
        stop_here()
        return super().write(batch, deadline, meanwhile)


class CopyingSink(PostgresSink):
    def write(self, batch: Batch, deadline: Deadline, meanwhile: Callable[[], None] = nothing) -> dict[int, Checkpoint]:
        with patch.object(psycopg.Copy, "write", copy_in_halves):
            return super().write(batch, deadline, meanwhile)


def copy_in_halves(copy: psycopg.Copy, data: bytes) -> None:
    half = len(data) // 2
    COPY(copy, data[:half])
    stop_here()
    COPY(copy, data[half:])


@cache
def stop_here() -> None:
    """Once."""
    FILE.touch()
    while FILE.exists():
        time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    sys.argv[1:] = ["worker"]
    with patch.object(worker, "PostgresSink", {"before": LateSink, "inside": CopyingSink}[MOMENT]):
        main()
