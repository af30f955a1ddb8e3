"""What was measured on, without its name; and how disturbed it was."""

import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil

from bench.peers import version as peer_version

LIBRARIES: Final = ("confluent-kafka", "fastavro", "pyarrow", "pyruhvro", "pydantic", "psycopg", "uvicorn", "uvloop")
PEERS: Final = ("quixstreams", "fastapi")
ROUNDS: Final = 15


def describe() -> str:
    cores, memory_gib = os.cpu_count(), psutil.virtual_memory().total / 2**30
    return f"{_processor()}, {cores} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.machine()}"


def versions(servers: dict[str, str]) -> dict[str, str]:
    ours = {name: version(name) for name in ("call-processor", *LIBRARIES)}
    return {"python": platform.python_version(), **servers, **ours, **{name: peer_version(name) for name in PEERS}}


def calibration() -> tuple[float, float]:
    """A loop that always does the same: its median in milliseconds of wall time, and by how many percent the slowest
    round was slower than the fastest: so much may any other figure be off."""
    times = []
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        sum(range(2_000_000))
        times.append(1000 * (time.perf_counter() - began_s))
    return statistics.median(times), 100 * (max(times) / min(times) - 1)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
