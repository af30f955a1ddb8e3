"""From a call's post (or its record) until another session can query its total; how soon another worker takes over, and
how soon a new one begins.
"""

import json
import multiprocessing
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.client import HTTPConnection
from statistics import quantiles
from typing import Final

import psycopg
from confluent_kafka import Producer

from bench import backlog
from bench.backlog import Backlog, Progress
from bench.meter import Meter, Point, Sample, between
from bench.place import SESSION_TIMEOUT_S, Place
from bench.posts import Plan
from bench.records import HORIZON_DAYS, Load, publish
from bench.report import Result, Say, repeated
from bench.server import answers
from processor.calls import parse_call_end
from processor.codec.rows import encode
from processor.embedded.ports import LOOPBACK
from tests.integration.test_takeover import two_workers, wait_until_taken_over
from tests.produce import Calls, streaming
from tests.stack import Installation, installed, wait_until, wait_until_ready

RUNS: Final = 3
SECONDS: Final = 12.0  # of probes
LEAD_S: Final = 3.0  # the load begins earlier and lasts as much longer
PROBES_PER_S: Final = 25
MAX_LOAD: Final = Load(500_000)
FEW: Final = Load(1000)
OFTEN: Final = 5  # how many workers are killed, and started

Send = Callable[[str], None]  # a call of this project, on its way when it returns


def measure(place: Place, say: Say) -> list[Result]:
    results = []
    with place.topic() as topic, place.installation(topic) as installation:
        port = start(installation)
        most = len(answers(Plan(port, seconds=LEAD_S)).status) / LEAD_S
        for share in (0.1, 0.5):
            name = f"event to queryable, {100 * share:.0f} % of the door's rate"
            results.append(repeated(name, RUNS, lambda: through_the_door(place, installation, port, share * most), say))  # noqa: B023
    with backlog.backlog(place, MAX_LOAD, say) as waiting:
        most = backlog.ours(waiting)["events/s"]
    with place.topic() as topic, place.installation(topic) as installation:
        wait_until_ready(installation.start_worker())
        name = "event to queryable, 50 % of the worker's rate, from a producer"
        results.append(repeated(name, RUNS, lambda: from_a_producer(place, installation, topic, most / 2), say))
    name = f"takeover after kill -9, session timeout {SESSION_TIMEOUT_S:g} s"
    results.append(repeated(name, OFTEN, lambda: takeover(place), say))
    with backlog.backlog(place, FEW, say) as waiting:
        results.append(repeated("start of a worker to its first record", OFTEN, lambda: start_to_first(waiting), say))
    return results


def start(installation: Installation) -> int:
    """A worker and a door; the door's port."""
    one = installation.start_worker()
    door, url = installation.start_ingest()
    wait_until_ready(one, door)
    return int(url.rpartition(":")[2])


def through_the_door(place: Place, installation: Installation, port: int, per_s: float) -> Sample:
    connection = HTTPConnection(LOOPBACK, port, timeout=30)

    def send(project: str) -> None:
        connection.request("POST", "/call/end", probe(project), {"content-type": "application/json"})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"{}")

    plan = Plan(port, connections=200, per_s=per_s, seconds=SECONDS + 2 * LEAD_S)
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(answers, plan)
        sample = probed(place, installation, send)
        got = load.result()
    assert set(got.status) == {200}, f"answers: {sorted(set(got.status))}"
    return sample


def from_a_producer(place: Place, installation: Installation, topic: str, per_s: float) -> Sample:
    brokers = place.kafka.bootstrap_servers
    probes = Producer({"bootstrap.servers": brokers, "linger.ms": 1, "partitioner": "murmur2_random"})

    def send(project: str) -> None:
        call = parse_call_end(probe(project), now=datetime.now(UTC), horizon_days=HORIZON_DAYS)
        probes.produce(topic, encode(call), project.encode())
        assert probes.flush(30) == 0

    load = Load(round(per_s * (SECONDS + 2 * LEAD_S)))
    seed = time.time_ns()
    process = multiprocessing.get_context("spawn").Process(
        target=publish, args=(brokers, topic, load), kwargs={"per_s": per_s, "seed": seed}
    )
    process.start()
    sample = probed(place, installation, send)
    process.join()
    assert process.exitcode == 0, "producing failed"
    return sample


def probe(project: str) -> bytes:
    end = {"project_id": project, "id": uuid.uuid4().hex, "ended_at": datetime.now(UTC).isoformat(), "summary": {}}
    return json.dumps({"end": end}).encode()


def probed(place: Place, installation: Installation, send: Send) -> Sample:
    """Probes, each its project's only call, while a load is on: from the moment before one is sent until it is seen."""
    meter = everything(place, installation)
    progress = Progress(installation)
    wait_until(lambda: progress() > 0, within_s=30, what="the load has begun")
    began_s = time.monotonic()
    wait_until(lambda: time.monotonic() - began_s > LEAD_S / 2, within_s=30, what="the load goes on")
    first = Point.now(meter, progress())
    run = uuid.uuid4().hex
    sent: dict[str, float] = {}
    with seen(installation, f"probe-{run}/") as found:
        for number in range(round(SECONDS * PROBES_PER_S)):
            due_s = first.at_s + number / PROBES_PER_S
            with suppress(ValueError):
                time.sleep(due_s - time.monotonic())
            project = f"probe-{run}/{number}"
            sent[project] = time.monotonic()
            send(project)
        last = Point.now(meter, progress())
        wait_until(lambda: found.keys() >= sent.keys(), within_s=60, what="all probes can be queried")
    took_ms = [1000 * (found[project] - sent_s) for project, sent_s in sent.items()]
    of_hundred = quantiles(took_ms, n=100, method="inclusive")
    return {"p50 ms": of_hundred[49], "p99 ms": of_hundred[98], "max ms": max(took_ms)} | between(first, last, "events")


def everything(place: Place, installation: Installation) -> Meter:
    ours = {process.name.partition("-")[0]: process.pid for process in installation.processes}
    named = {"ingest": ours.get("ingest"), "worker": ours.get("worker")}
    servers = {"PostgreSQL": place.postgres.pid, "broker": place.kafka.pid}
    return Meter({name: pid for name, pid in {**named, **servers}.items() if pid is not None})


@contextmanager
def seen(installation: Installation, prefix: str) -> Iterator[dict[str, float]]:
    """When each project with this prefix was first in the public view."""
    found: dict[str, float] = {}
    stop = threading.Event()

    def watch() -> None:
        query = "SELECT project_id FROM outcomes_hourly WHERE project_id >= %s AND project_id < %s"
        with psycopg.connect(installation.dsn, autocommit=True) as connection:
            while not stop.wait(0.01):
                rows = connection.execute(query, (prefix, prefix[:-1] + "0")).fetchall()
                now_s = time.monotonic()
                for (project,) in rows:
                    found.setdefault(project, now_s)

    with ThreadPoolExecutor(1) as pool:
        watcher = pool.submit(watch)
        try:
            yield found
        finally:
            stop.set()
        watcher.result()


def takeover(place: Place) -> Sample:
    """A worker that is killed: until all partitions are counted again, by the other one."""
    with installed(place.servers, place.folder) as installation:
        installation.settings["WORKER__SESSION_TIMEOUT_S"] = f"{SESSION_TIMEOUT_S:g}"
        one, _ = two_workers(installation, "classic")
        with streaming(Calls(installation, seed=1)):
            installation.wait_until_counting()
            one.kill()
            return {"s": wait_until_taken_over(installation)}


def start_to_first(waiting: Backlog) -> Sample:
    """From the start of its process until others see that it has counted."""
    with waiting.place.installation(waiting.topic) as installation:
        progress = Progress(installation)
        began_s = time.monotonic()
        installation.start_worker()
        wait_until(lambda: progress() > 0, within_s=60, what="the first record is counted")
        return {"s": time.monotonic() - began_s}
