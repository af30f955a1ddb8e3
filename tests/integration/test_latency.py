"""How long it takes at low load until a call that was posted is in the tables."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from statistics import quantiles
from typing import Final
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.parallel import tell
from tests.stack import START_TIMEOUT_S, Installation, Late, wait_until

pytestmark = pytest.mark.stack

CLIENTS: Final = 8
POSTS: Final = 25  # of each
EVERY_S: Final = 0.2
WITHIN_S: Final = 1.0
ROUNDS: Final = 3  # whoever else uses this machine may spoil one


def test_a_posted_call_is_in_the_tables_within_a_second(
    installation: Installation, request: pytest.FixtureRequest
) -> None:
    ingest, url = installation.start_ingest()
    worker = installation.start_worker()
    wait_until(lambda: ingest.is_ready() and worker.is_ready(), within_s=START_TIMEOUT_S, what="both are ready")
    measured = []
    for _ in range(ROUNDS):
        seconds = latencies(installation, url)
        measured.append((quantiles(seconds, n=100)[49], quantiles(seconds, n=100)[98]))
        tell(request, f"from post to tables: p50 {measured[-1][0]:.3f} s, p99 {measured[-1][1]:.3f} s")
        if measured[-1][1] < WITHIN_S:
            return
    raise Late(f"p50 and p99 of {ROUNDS} rounds: {measured}")


def latencies(installation: Installation, url: str) -> list[float]:
    """From the moment before a request is sent until another session sees what was counted of it."""
    sent: dict[str, float] = {}
    with watching(installation) as seen, ThreadPoolExecutor(CLIENTS) as pool:
        for client in [pool.submit(post_now_and_then, url, sent) for _ in range(CLIENTS)]:
            client.result()
        wait_until(lambda: seen.keys() >= sent.keys(), within_s=30, what="all are in the tables")
    assert len(sent) == CLIENTS * POSTS
    return [seen[project] - began_s for project, began_s in sent.items()]


def post_now_and_then(url: str, sent: dict[str, float]) -> None:
    """Each call is its project's only one."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    due_s = time.monotonic()
    for _ in range(POSTS):
        project = f"acme/{uuid.uuid4().hex}"
        end = {"project_id": project, "id": uuid.uuid4().hex, "ended_at": datetime.now(UTC).isoformat(), "summary": {}}
        sent[project] = time.monotonic()
        connection.request("POST", "/call/end", json.dumps({"end": end}), {"content-type": "application/json"})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"{}")
        due_s += EVERY_S
        wait_until(lambda due_s=due_s: time.monotonic() >= due_s, within_s=10, what="the next one is due")  # type: ignore[misc]
    connection.close()


@contextmanager
def watching(installation: Installation) -> Iterator[dict[str, float]]:
    """When each project was first seen in the tables."""
    seen: dict[str, float] = {}
    stop = threading.Event()

    def watch() -> None:
        with psycopg.connect(installation.dsn, autocommit=True) as connection:
            while not stop.wait(0.01):
                rows = connection.execute("SELECT project_id FROM outcomes_hourly").fetchall()
                now_s = time.monotonic()
                for (project,) in rows:
                    seen.setdefault(project, now_s)

    with ThreadPoolExecutor(1) as pool:
        watcher = pool.submit(watch)
        try:
            yield seen
        finally:
            stop.set()
        watcher.result()
