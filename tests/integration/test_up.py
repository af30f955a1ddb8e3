"""`up`, for real: one JSON line when all is ready, dead children come back, Ctrl-C leaves no process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from confluent_kafka import Producer

from processor.sample.bad_bodies import JSON
from processor.sample.posts import sample
from processor.sample.sender import send
from tests.stack import START_TIMEOUT_S, Installation, http_status, runs, wait_until

BARE = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
SETTINGS = {"CALL_PROCESSOR_WORKER__SESSION_TIMEOUT_S": "6"}


class Up:
    """A running `call-processor up`."""

    def __init__(self, folder: Path, *options: str, **settings: str) -> None:
        self.folder = folder
        self.log = folder / "up.log"
        environment = {**BARE, **SETTINGS, **{f"CALL_PROCESSOR_{name}": value for name, value in settings.items()}}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "processor", "up", "--state", "state", *options],
                cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self.family: dict[int, psutil.Process] = {}
        self.report: dict[str, Any] = {}

    def wait_until_ready(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"`up` ended with {self.process.wait()}:\n{self.log.read_text()}"
        for process in psutil.Process(self.process.pid).children(recursive=True):
            self.family[process.pid] = process
        self.report = json.loads(line)
        return self.report

    def children(self, part: str) -> list[psutil.Process]:
        """Direct children whose command line contains `part`."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            self.family[child.pid] = child
            with suppress(psutil.NoSuchProcess):  # a zombie is one of those
                if part in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def replaced(self, part: str, dead: psutil.Process, count: int) -> bool:
        running = self.children(part)
        return dead not in running and len(running) == count

    def all_ready(self) -> bool:
        urls = [*self.report["admin"]["ingest"], *self.report["admin"]["worker"]]
        return all(http_status(url.removeprefix("http://"), "/readyz") == 200 for url in urls)

    def total(self) -> int:
        with psycopg.connect(self.report["dsn"]) as connection:
            row = connection.execute("SELECT coalesce(sum(calls), 0) FROM outcome_totals").fetchone()
        assert row is not None
        return int(row[0])

    def left(self) -> list[psutil.Process]:
        return [p for p in self.family.values() if runs(p)]

    def stop(self, with_signal: signal.Signals = signal.SIGINT) -> int:
        """The exit code; what else was written to stdout is an error."""
        assert self.process.stdout is not None
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        assert self.process.stdout.read() == b""
        self.process.stdout.close()
        return self.process.wait()

    def said(self) -> str:
        return self.log.read_text()

    def end(self) -> None:
        """Whatever a test did or did not do."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


Start = Callable[..., Up]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as started:

        def start(folder: Path, *options: str, **settings: str) -> Up:
            up = Up(folder, *options, **settings)
            started.callback(up.end)
            return up

        yield start


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One for all tests that leave it as they found it."""
    up = Up(tmp_path_factory.mktemp("up"))
    try:
        up.wait_until_ready()
        yield up
        assert up.stop() == 0
    finally:
        up.end()


def post_calls(up: Up, seed: int, count: int = 50) -> int:
    """How many different calls were accepted."""
    posts = [post for post in sample(seed, now=datetime.now(UTC), calls=count, bad=False) if post.headers == JSON]
    answers = send(up.report["ingest"], posts)
    assert {answer.status for answer in answers} == {200}
    return len({post.call for post in posts})


def test_the_report_names_everything_that_a_user_needs(up: Up) -> None:
    assert list(up.report) == ["ingest", "admin", "bootstrap_servers", "dsn", "group", "topics"]
    assert {role: len(urls) for role, urls in up.report["admin"].items()} == {"ingest": 1, "worker": 2}
    assert (up.report["group"], up.report["topics"]["dead_letters"]) == ("call-processor", "llm-call-end.dlq")
    assert up.all_ready()
    assert "Kafka: embedded 4.3.1" in up.said()
    assert "PostgreSQL: embedded 18" in up.said()


def test_another_shell_is_told_how_to_look_at_the_totals_while_it_runs(up: Up) -> None:
    look = next(line for line in up.said().splitlines() if line.startswith("up: in another shell: "))
    command = ["sh", "-c", look.removeprefix("up: in another shell: ")]
    shown = subprocess.run(command, cwd=up.folder, env=BARE, timeout=30, text=True, capture_output=True, check=True)
    assert "no calls are counted yet" in shown.stdout or "TOKENS" in shown.stdout


def test_each_role_is_a_direct_child_that_can_be_found_by_its_command_line(up: Up) -> None:
    assert len(up.children("call-processor ingest")) == 1
    assert len(up.children("call-processor worker")) == 2


def test_a_second_up_on_the_same_state_refuses(up: Up, start: Start) -> None:
    second = start(up.folder)
    assert second.process.wait(START_TIMEOUT_S) == 3
    second.stop()
    assert "is in use by another `up` or `demo`" in up.said()


@pytest.mark.parametrize(("part", "count"), [("call-processor worker", 2), ("call-processor ingest", 1)])
def test_a_killed_child_comes_back(up: Up, part: str, count: int) -> None:
    dead = up.children(part)[0]
    dead.kill()
    wait_until(lambda: up.replaced(part, dead, count), within_s=10, what=f"{part} is started again")
    wait_until(up.all_ready, within_s=30, what="all are ready again")


@pytest.mark.parametrize(("part", "seed"), [("kafka.Kafka", 10), ("bin/postgres", 20)])
def test_a_killed_server_comes_back_and_nothing_is_lost(up: Up, part: str, seed: int) -> None:
    before = up.total()
    accepted = post_calls(up, seed=seed)
    dead = up.children(part)[0]
    dead.kill()
    wait_until(lambda: up.replaced(part, dead, 1), within_s=10, what=f"{part} is started again")
    wait_until(up.all_ready, within_s=60, what="all are ready again")
    accepted += post_calls(up, seed=seed + 1)
    wait_until(lambda: up.total() == before + accepted, within_s=60, what="every accepted call is counted")


def test_ctrl_c_stops_everything_in_order_and_the_next_up_goes_on_from_there(tmp_path: Path, start: Start) -> None:
    first = start(tmp_path, "--workers", "1")
    first.wait_until_ready()
    accepted = post_calls(first, seed=1)
    wait_until(lambda: first.total() == accepted, within_s=30, what="every accepted call is counted")
    assert (tmp_path / "state" / "env").exists()
    assert first.stop(signal.SIGINT) == 0
    assert first.left() == []
    assert not (tmp_path / "state" / "env").exists()  # it would lead to ports that others may have by now

    second = start(tmp_path, "--workers", "1")
    second.wait_until_ready()
    assert second.total() == accepted
    second.stop(signal.SIGKILL)
    wait_until(lambda: second.left() == [], within_s=10, what="nothing is left of a killed `up`")

    third = start(tmp_path, "--workers", "1", "--fresh")
    third.wait_until_ready()
    assert third.total() == 0
    assert third.stop(signal.SIGTERM) == 0
    assert third.left() == []


def test_configured_servers_win_and_the_choice_is_printed(installation: Installation, start: Start) -> None:
    settings = {name.removeprefix("CALL_PROCESSOR_"): value for name, value in installation.environment().items()}
    ours = {name: value for name, value in settings.items() if "__" in name}
    up = start(installation.folder, "--workers", "1", **ours)
    report = up.wait_until_ready()
    assert report["bootstrap_servers"] == installation.servers.bootstrap_servers
    assert f"Kafka: as configured, {installation.servers.bootstrap_servers}" in up.said()
    assert "PostgreSQL: as configured" in up.said()
    assert up.children("kafka.Kafka") + up.children("bin/postgres") == []
    assert up.stop() == 0


def test_a_worker_that_protects_the_numbers_is_tried_again_while_all_else_stays_up_until_somebody_resumes(
    installation: Installation, start: Start
) -> None:
    settings = installation.environment(WORKER__BREAKER_RUN="5")
    ours = {name.removeprefix("CALL_PROCESSOR_"): value for name, value in settings.items() if "__" in name}
    up = start(installation.folder, "--workers", "1", **ours)
    up.wait_until_ready()
    producer = Producer({"bootstrap.servers": installation.servers.bootstrap_servers})
    for _ in range(5):
        producer.produce(installation.topic, b"no call", partition=0)
    assert producer.flush(10) == 0
    again = "worker 0 ended with exit code 4: it is started again in 10 s"
    wait_until(lambda: again in up.said(), within_s=20, what="the breaker has stopped the worker")
    accepted = post_calls(up, seed=2)
    assert "partitions 0;" in installation.output("resume")
    assert up.total() == 0
    wait_until(lambda: up.total() == accepted, within_s=30, what="it goes on")
    assert len(up.children("call-processor ingest")) == 1
    assert up.stop() == 0


def test_wrong_settings_of_a_child_stop_everything_with_its_exit_code(installation: Installation, start: Start) -> None:
    settings = installation.environment(INGEST__LISTEN="0.0.0.0:18080")  # beyond loopback without a key file
    ours = {name.removeprefix("CALL_PROCESSOR_"): value for name, value in settings.items() if "__" in name}
    up = start(installation.folder, **ours)
    assert up.process.wait(START_TIMEOUT_S) == 2
    up.stop()
    assert "everything is stopped" in up.said()
