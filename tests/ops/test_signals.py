"""A real Prometheus watches `up` under load: what rules and panels ask for is there, and faults cause their alerts."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPConnection
from typing import Final

import psutil
import pytest
from confluent_kafka import Producer

from processor.embedded.postgres import EmbeddedPostgres
from tests import dashboards
from tests.integration.test_up import Up
from tests.ops.tools import program, promtool
from tests.ops.watched import Load, Prometheus
from tests.proxy import Proxy
from tests.rules import rules, selectors
from tests.stack import http_status, wait_until

pytestmark = [pytest.mark.ops, pytest.mark.timeout(300)]
KEY: Final = "a key that nobody guesses"
NOTICED_S: Final = 60.0
OVER_S: Final = 60.0
CALM_S: Final = 3
HEALTHY_S: Final = 14  # longer than every shortened window
LATE: Final = {"CallProcessorFreshnessBurnsFast", "CallProcessorFreshnessBurnsSlowly"}
REFUSED_RECORDS: Final = 1500


@dataclass
class Watched:
    up: Up
    prometheus: Prometheus
    database: Proxy  # between the workers and PostgreSQL
    load: Load
    dsn: str  # past the proxy

    @property
    def ingest_admin(self) -> str:
        return admins(self.up)["ingest"][0]

    def settle(self) -> None:
        wait_until(
            lambda: not self.prometheus.firing(since_s=time.time() - CALM_S), within_s=OVER_S, what="no alert is firing"
        )

    @contextmanager
    def expecting(self, must: set[str], may: AbstractSet[str] = frozenset()) -> Iterator[None]:
        """A fault lasts as long as the context: all of `must` fire, nothing beyond `may`, and all are over in the end.

        `may`: what a fault leads to if it lasts, so that it depends on how quickly the others were seen.
        """
        self.settle()  # whatever was before
        began_s = time.time()
        yield
        self.settle()
        fired = self.prometheus.firing(since_s=began_s)
        assert must <= fired <= must | may

    def wait_for(self, *names: str) -> None:
        def missing() -> set[str]:
            return set(names) - self.prometheus.firing()

        wait_until(lambda: not missing(), within_s=NOTICED_S, what=f"{names} are firing")


def admins(up: Up) -> dict[str, list[str]]:
    return {role: [url.removeprefix("http://") for url in urls] for role, urls in up.report["admin"].items()}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    program("prometheus")
    folder = tmp_path_factory.mktemp("signals")
    digest = sha256(KEY.encode()).hexdigest()
    keys = folder / "keys.toml"
    keys.write_text(f'[keys.load]\nsha256 = "{digest}"\nprojects = ["*/*"]\n')
    with ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(folder / "postgres", settings={"fsync": "off"}))
        proxy = stack.enter_context(Proxy(f"127.0.0.1:{postgres.port}"))
        dsn = postgres.dsn.replace(proxy.target, proxy.address)
        up = Up(folder, POSTGRES__DSN=dsn, INGEST__KEYS_FILE=str(keys))
        stack.callback(up.end)
        up.wait_until_ready()
        prometheus = Prometheus(folder / "prometheus", admins(up))
        stack.callback(prometheus.stop)
        prometheus.wait_until_ready()
        processes = sum(map(len, admins(up).values()))
        scraped = "call_processor_build_info"
        wait_until(lambda: len(prometheus.query(scraped)) == processes, within_s=30, what="all are scraped")
        load = Load(up.report["ingest"].removeprefix("http://"), KEY)
        stack.enter_context(load.running())
        wait_until(lambda: load.statuses.count(200) > 100, within_s=30, what="calls are accepted")
        yield Watched(up, prometheus, proxy, load, postgres.dsn)


def test_the_format_is_what_prometheus_wants_of_it(watched: Watched) -> None:
    for address in (watched.ingest_admin, admins(watched.up)["worker"][0]):
        assert promtool("check", "metrics", stdin=get(address, "/metrics")[1].encode()) == ""


def test_everything_that_rules_and_panels_ask_for_is_there_and_nothing_fires_when_all_is_well(watched: Watched) -> None:
    watched.settle()  # Prometheus itself has just begun
    began_s = time.time()
    asked = {selector for rule in rules() for selector in selectors(rule.expr)}
    asked |= {selector for query in dashboards.promql() for selector in selectors(query.promql)}
    assert len(asked) > 80
    wait_until(lambda: time.time() - began_s > HEALTHY_S, within_s=60, what="windows are full")
    missing = {selector for selector in asked if not watched.prometheus.series(selector)}
    assert missing == set()
    empty = {q.panel for q in dashboards.promql() if " > 0" not in q.text and not watched.prometheus.query(q.promql)}
    assert empty == set()
    assert watched.prometheus.firing(since_s=began_s) == set()


def test_the_log_has_a_line_for_each_batch_and_none_for_a_request(watched: Watched) -> None:
    batches = watched.prometheus.query("sum(call_processor_batch_records_count)")[0][1]
    events = [json.loads(line) for line in watched.up.said().splitlines() if line.startswith("{")]
    written = [event for event in events if event["event"] == "batch written"]
    assert sum(event["counted"] for event in written) >= 100
    assert batches <= len(written) <= batches + 40  # since the last scrape
    others = [event for event in events if event["event"] != "batch written"]
    assert len(others) < 60, others
    assert len([event for event in others if event["role"] == "ingest"]) < 10
    assert {"role", "level", "event", "timestamp", "logger"} <= set.intersection(*(set(event) for event in events))


def test_frozen_workers_and_wrong_keys(watched: Watched) -> None:
    stranger = Load(watched.load.door, "a key that somebody guessed")
    may = {*LATE, "CallProcessorLagGrows", "CallProcessorCheckpointStands"}  # seen when workers are scraped again
    must = {"CallProcessorWorkerAbsent", "CallProcessorAuthFailuresSurge"}
    workers = watched.up.children("call-processor worker")
    with watched.expecting(must, may), stranger.running(), frozen(workers):
        watched.wait_for(*must)
    assert set(stranger.statuses) == {401}


def test_the_database_is_away(watched: Watched) -> None:
    must = {
        "CallProcessorSinkUnavailable", "CallProcessorCheckpointStands", "CallProcessorLagGrows", *LATE
    }  # fmt: skip
    before = lives(watched)
    with watched.expecting(must):
        watched.database.cut()
        wait_until(lambda: not_ready(watched), within_s=NOTICED_S, what="readiness says so")
        assert all("cannot write now: PostgreSQL is not reachable" in text for text in not_ready(watched))
        watched.wait_for(*must)
        watched.database.resume()
    assert lives(watched) == before


def test_the_broker_is_away(watched: Watched) -> None:
    must = {
        "CallProcessorBrokerAway", "CallProcessorAnswers503", "CallProcessorAcceptanceBurnsFast",
        "CallProcessorAcceptanceBurnsSlowly",
    }  # fmt: skip
    before = lives(watched)
    may = {*LATE, "CallProcessorTrafficStopped", "CallProcessorSinkUnavailable"}
    with watched.expecting(must, may), frozen(watched.up.children("kafka.Kafka")):
        watched.wait_for(*must)
        status, text = get(watched.ingest_admin, "/readyz?verbose")
        assert (status, "no broker answers" in text) == (200, True)
        assert http_status(watched.ingest_admin, "/livez") == 200
    assert lives(watched) == before


def test_the_breaker_and_a_silence(watched: Watched) -> None:
    may = {*LATE, "CallProcessorDeadLetters", "CallProcessorCheckpointStands", "CallProcessorLagGrows"}
    must = {"CallProcessorBreakerOpen", "CallProcessorWorkerAbsent", "CallProcessorTrafficStopped"}
    with watched.expecting(must, may):
        producer = Producer({"bootstrap.servers": watched.up.report["bootstrap_servers"]})
        for _ in range(REFUSED_RECORDS):
            producer.produce(watched.up.report["topics"]["calls"], b"no call", partition=0)
        assert producer.flush(10) == 0
        watched.wait_for("CallProcessorBreakerOpen", "CallProcessorWorkerAbsent")
        watched.load.silent = True
        watched.wait_for("CallProcessorTrafficStopped")
        resume(watched)
        watched.load.silent = False


@contextmanager
def frozen(processes: list[psutil.Process]) -> Iterator[None]:
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def not_ready(watched: Watched) -> list[str]:
    """What the workers say, when all are not ready; each of them is alive."""
    workers = admins(watched.up)["worker"]
    assert {http_status(address, "/livez") for address in workers} == {200}
    found = [get(address, "/readyz") for address in workers]
    return [text for _, text in found] if {status for status, _ in found} == {503} else []


def lives(watched: Watched) -> set[tuple[str, float]]:
    """When each process began: whether any was restarted."""
    return {
        (labels["instance"], began) for labels, began in watched.prometheus.query("call_processor_start_time_seconds")
    }


def resume(watched: Watched) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "CALL_PROCESSOR_KAFKA__BOOTSTRAP_SERVERS": watched.up.report["bootstrap_servers"],
        "CALL_PROCESSOR_POSTGRES__DSN": watched.dsn,
    }
    ended = subprocess.run(
        [sys.executable, "-m", "processor", "resume"],
        env=environment, cwd=watched.up.folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def get(address: str, path: str) -> tuple[int, str]:
    connection = HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
