"""What being scraped costs: CPU of the process that is scraped, and the latency of the door meanwhile.

    python -m bench.scrape [--rate 100] [--seconds 10] [--rounds 3]

Starts `call-processor up` with servers of its own, posts calls at a steady rate, and takes turns: nobody scrapes, then
somebody does, over one connection as Prometheus would. Prints, for the door and for a worker, the share of a core that
scraping adds, and for the door its latency in both. Rates on a busy machine are worth little: look at the differences.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import psutil

POSTS_PER_S: Final = 100


@dataclass
class Measured:
    """In one kind of rounds. `cpu`: by role, shares of a core."""

    cpu: dict[str, list[float]] = field(default_factory=lambda: {"ingest": [], "worker": []})
    latency_s: list[float] = field(default_factory=list)
    scrape_s: list[float] = field(default_factory=list)


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="scrape-") as folder, running(Path(folder)) as (report, processes):
        quiet, scraped = Measured(), Measured()
        for _ in range(options.rounds):
            run(report, processes, quiet, options.seconds, 0)
            run(report, processes, scraped, options.seconds, options.rate)
    show(quiet, scraped, options.rate)


def run(
    report: dict[str, Any], processes: dict[str, psutil.Process], into: Measured, seconds: float, rate: int
) -> None:
    over = threading.Event()
    door = report["ingest"].removeprefix("http://")
    threads = [threading.Thread(target=repeat, args=(door, post, POSTS_PER_S, into.latency_s, over))]
    if rate:
        for role in processes:
            admin = report["admin"][role][0].removeprefix("http://")
            threads.append(threading.Thread(target=repeat, args=(admin, scrape, rate, into.scrape_s, over)))
    before, began_s = {role: cpu_s(process) for role, process in processes.items()}, time.monotonic()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    for role, process in processes.items():
        into.cpu[role].append((cpu_s(process) - before[role]) / (time.monotonic() - began_s))
    over.set()
    for thread in threads:
        thread.join()


def repeat(address: str, once: Any, rate: int, into: list[float], over: threading.Event) -> None:
    """At a steady rate, whatever each takes."""
    connection = HTTPConnection(address, timeout=10)
    due_s = time.monotonic()
    while not over.is_set():
        due_s += 1 / rate
        time.sleep(max(0.0, due_s - time.monotonic()))
        began_s = time.perf_counter()
        once(connection)
        into.append(time.perf_counter() - began_s)
    connection.close()


def scrape(connection: HTTPConnection) -> None:
    connection.request("GET", "/metrics", headers={"accept": "text/plain;version=0.0.4"})
    answer = connection.getresponse()
    assert answer.status == 200
    answer.read()


def post(connection: HTTPConnection) -> None:
    end = {"project_id": "acme/chat", "id": uuid.uuid4().hex, "ended_at": datetime.now(UTC).isoformat(), "summary": {}}
    connection.request("POST", "/call/end", json.dumps({"end": end}), {"content-type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200
    answer.read()


def show(quiet: Measured, scraped: Measured, rate: int) -> None:
    print(f"{len(scraped.scrape_s):,} scrapes, {rate} a second of each role, {percentiles(scraped.scrape_s)}")
    for role, shares in scraped.cpu.items():
        without, within = statistics.mean(quiet.cpu[role]), statistics.mean(shares)
        print(f"{role}: {without:.2%} of a core without, {within:.2%} scraped: {within - without:+.2%}")
    print(f"door without: {percentiles(quiet.latency_s)}")
    print(f"door scraped: {percentiles(scraped.latency_s)}")


def percentiles(seconds: list[float]) -> str:
    cut = statistics.quantiles(seconds, n=1000)
    return f"p50 {cut[499] * 1e3:.2f} ms, p99 {cut[989] * 1e3:.2f} ms, p99.9 {cut[998] * 1e3:.2f} ms"


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def running(folder: Path) -> Iterator[tuple[dict[str, Any], dict[str, psutil.Process]]]:
    """What `up` reports, and its first process of each role."""
    up = subprocess.Popen(
        [sys.executable, "-m", "processor", "up", "--workers", "1"],
        cwd=folder, stdout=subprocess.PIPE, stderr=(folder / "log").open("wb"),
    )  # fmt: skip
    try:
        assert up.stdout is not None
        report = json.loads(up.stdout.readline())
        children = psutil.Process(up.pid).children()
        found = {
            role: next(child for child in children if f"call-processor {role}" in " ".join(child.cmdline()))
            for role in ("ingest", "worker")
        }
        time.sleep(15)  # what they do once after their start is no part of it
        yield report, found
    finally:
        up.terminate()
        up.wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=100, help="scrapes a second of each role")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
