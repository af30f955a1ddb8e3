"""A real Kafka and a real PostgreSQL for one test run, and real processes of ours on top of them.

Every test gets its own topics and its own database schema, so that tests share the servers and nothing else.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, LiteralString

import psutil
import psycopg
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from psycopg import sql

from processor import child
from processor.deadline import Deadline
from processor.embedded.kafka import EmbeddedKafka
from processor.embedded.ports import LOOPBACK, free_port
from processor.embedded.postgres import EmbeddedPostgres
from processor.kafka.topics import MIB, Topics, TopicSpec
from processor.sample import stored
from processor.sinks.postgres.migrate import migrate

PARTITIONS = 4
MARK = "CALLS_TEST_RUN"  # in the environment of all that a test starts, so that what is left over can be found
START_TIMEOUT_S = 20.0
LOOK_EVERY_S = 0.03
LOOK_SELDOM_S = 0.15  # a look costs both sides; after some seconds of waiting a moment more does not matter


class Late(AssertionError):
    """What was waited for did not come in time."""


def wait_until(condition: Callable[[], object], *, within_s: float, what: str) -> None:
    """Look again and again, until `condition` holds; Late that names `what` when the time is over."""
    for _ in looks(within_s):
        if condition():
            return
    raise Late(f"after {within_s} s still not: {what}")


def looks(within_s: float) -> Iterator[None]:
    """Each time that it is to be looked, until the time is over. The longer it was waited, the more seldom: no look is
    late by more than a twentieth of the time."""
    began_s = time.monotonic()
    yield
    while (waited_s := time.monotonic() - began_s) <= within_s:
        time.sleep(min(max(waited_s / 20, LOOK_EVERY_S), LOOK_SELDOM_S))
        yield


@contextmanager
def frozen(process: child.Child) -> Iterator[None]:
    """Its connections stay open, new ones are accepted by the system, and nobody answers."""
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)  # the last of its threads stands
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def assert_in_time(took_s: float, within_s: float) -> None:
    """Late, if it took longer."""
    if took_s > within_s:
        raise Late(f"it took {took_s:.2f} s, not {within_s:g} s at most")


@dataclass(frozen=True, slots=True)
class Servers:
    bootstrap_servers: str
    dsn: str


@contextmanager
def embedded_servers(state_dir: Path) -> Iterator[Servers]:
    kafka = EmbeddedKafka(state_dir / "kafka")
    with (
        EmbeddedPostgres(state_dir / "postgres", settings={"max_connections": "200", "fsync": "off"}) as postgres,
        kafka,
    ):
        yield Servers(kafka.bootstrap_servers, postgres.dsn)


class Process(child.Child):
    """One `call-processor <command>`; what it says is in `log`. Stopped by SIGTERM, killed by SIGKILL."""

    admin: str

    def __init__(self, command: Sequence[str], *, folder: Path, name: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.admin = environment["CALL_PROCESSOR_ADMIN__LISTEN"]
        self._command = [sys.executable, "-m", "processor", *command]
        self._folder = folder
        self._environment = environment

    def launch(self) -> None:
        with self.log.open("ab") as output:
            self._process = child.spawn(self._command, output=output, env=self._environment, cwd=self._folder)

    def is_ready(self) -> bool:
        assert self.poll() is None, f"{self.name} ended with {self.poll()}:\n{self.tail()}"
        return http_status(self.admin, "/readyz") == 200

    def ended(self, within_s: float = START_TIMEOUT_S) -> tuple[int | None, str]:
        """When it has: its exit code, and the last line that it said."""
        wait_until(lambda: self.poll() is not None, within_s=within_s, what=f"{self.name} has ended")
        return self.poll(), self.log.read_text().splitlines()[-1]

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


def wait_until_ready(*processes: Process) -> None:
    """A worker is ready when it has joined its group."""
    for process in processes:
        wait_until(process.is_ready, within_s=START_TIMEOUT_S, what=f"{process.name} is ready")


@dataclass(slots=True)
class Installation:
    """Topics, a database schema, and the processes that were started on them."""

    servers: Servers
    folder: Path
    name: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:12]}")
    settings: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)  # of the environment, which are no settings of ours
    processes: list[Process] = field(default_factory=list)
    _session: psycopg.Connection | None = None

    @property
    def topic(self) -> str:
        return f"{self.name}.calls"

    @property
    def dead_letter_topic(self) -> str:
        return f"{self.topic}.dlq"

    @property
    def dsn(self) -> str:
        return f"{self.servers.dsn}?options=-csearch_path%3D{self.name}"

    def create(self) -> None:
        self.create_topics()
        self.create_schema()
        migrate(self.dsn, Deadline.after(START_TIMEOUT_S))

    def create_schema(self) -> None:
        """An empty one."""
        with psycopg.connect(self.servers.dsn) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(self.name)))

    def create_topics(self) -> bool:
        """False if the topic of calls was there already; else when the broker knows it, which may take a moment."""
        topics = Topics({"bootstrap.servers": self.servers.bootstrap_servers})
        topics.create(TopicSpec(self.dead_letter_topic, 1, 1, retention_days=30, max_message_bytes=9 * MIB))
        created = topics.create(TopicSpec(self.topic, PARTITIONS, 1, retention_days=7, max_message_bytes=8 * MIB))
        if created:
            self.end_offsets(self.topic)
        return created

    def environment(self, **settings: str) -> dict[str, str]:
        """Nothing of ours from outside; what a bare shell has, and these settings."""
        ours = {
            "KAFKA__BOOTSTRAP_SERVERS": self.servers.bootstrap_servers,
            "KAFKA__TOPIC": self.topic,
            "KAFKA__GROUP": self.name,
            "POSTGRES__DSN": self.dsn,
            "WORKER__SESSION_TIMEOUT_S": "6",
            **self.settings,
            **settings,
        }
        bare = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        prefixed = {f"CALL_PROCESSOR_{name}": value for name, value in ours.items()}
        return {**bare, **self.variables, MARK: self.name, **prefixed}

    def run(self, *command: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        """`call-processor <command>` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "processor", *command],
            env=self.environment(**settings), cwd=self.folder, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def output(self, *command: str, **settings: str) -> str:
        """What it prints, if all goes well."""
        ended = self.run(*command, **settings)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def start(self, *command: str, **settings: str) -> Process:
        """`call-processor <command>`; `settings` by their name without the prefix."""
        environment = self.environment(ADMIN__LISTEN=f"{LOOPBACK}:{free_port()}", **settings)
        name = f"{command[0]}-{len(self.processes)}"
        process = Process(command, folder=self.folder, name=name, environment=environment)
        process.launch()
        self.processes.append(process)
        return process

    def start_worker(self, **settings: str) -> Process:
        return self.start("worker", **settings)

    def start_ingest(self, listen: str | None = None, **settings: str) -> tuple[Process, str]:
        """The process and the door's address, as URL; `listen`: the same door again."""
        listen = listen or f"{LOOPBACK}:{free_port()}"
        return self.start("ingest", INGEST__LISTEN=listen, **settings), f"http://{listen}"

    def end_offsets(self, topic: str) -> dict[int, int]:
        consumer = Consumer({"bootstrap.servers": self.servers.bootstrap_servers, "group.id": "unused"})
        deadline = Deadline.after(10)
        try:
            while not (ends := _end_offsets(consumer, topic)):
                if deadline.passed():
                    raise Late(f"nobody tells the end of {topic}")
                time.sleep(LOOK_EVERY_S)
            return ends
        finally:
            consumer.close()

    def wait_until_counted(self, within_s: float = 30) -> stored.Counters:
        """Until every record that is on the topic now is accounted for; one that was given up may still come later."""
        ends = self.end_offsets(self.topic)
        counted: dict[int, int] = {}
        for _ in looks(within_s):
            counted = self.next_offsets()
            if all(counted.get(partition, 0) >= end for partition, end in ends.items()):
                return stored.counters(self.dsn, self.topic)
        raise Late(f"after {within_s} s the log ends at {ends}, counted up to {counted}")

    def wait_until_counting(self, within_s: float = 30) -> None:
        """Until records of every partition are counted that come after this moment: somebody must produce them."""
        ends = self.end_offsets(self.topic)

        def beyond() -> bool:
            counted = self.next_offsets()
            return all(counted.get(partition, 0) > end for partition, end in ends.items())

        wait_until(beyond, within_s=within_s, what="every partition is counted, further than now")

    def next_offsets(self) -> dict[int, int]:
        return dict(self.rows("SELECT partition, next_offset FROM checkpoints"))

    def rows(self, query: LiteralString) -> list[tuple[Any, ...]]:
        """In a session that is kept: tests look often, and a session costs the server a process."""
        if self._session is None or self._session.closed:
            self._session = psycopg.connect(self.dsn, autocommit=True)
        return self._session.execute(query).fetchall()

    def leave_maintenance_to_the_test(self) -> None:
        """Else a worker does it ten seconds after its start."""
        assert self.rows("UPDATE maintenance SET last_run_at = now() RETURNING true")

    def publish(self, values: Sequence[bytes | None], headers: Mapping[str, bytes] | None = None) -> None:
        """Records of others on the topic of calls; returns when they are acknowledged."""
        producer = Producer({"bootstrap.servers": self.servers.bootstrap_servers})
        for number, value in enumerate(values):
            producer.produce(self.topic, value, key=f"key {number}".encode(), headers=dict(headers or {}))
        assert producer.flush(10) == 0

    def records(self, topic: str) -> list[Message]:
        """Everything that is on a topic now."""
        ends = self.end_offsets(topic)
        consumer = Consumer({"bootstrap.servers": self.servers.bootstrap_servers, "group.id": "unused"})
        records: list[Message] = []
        try:
            consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
            deadline = Deadline.after(10)
            while len(records) < sum(ends.values()):
                if deadline.passed():
                    raise Late(f"{len(records)} of {sum(ends.values())} records of {topic}")
                records += consumer.consume(1000, 0.1)
        finally:
            consumer.close()
        return records

    def close_session(self) -> None:
        """That of `rows`, which opens another one when it is needed: before its server is killed."""
        if self._session is not None:
            self._session.close()

    def close(self) -> None:
        """Stops what still runs, kills what does not stop, and fails if anything was left over."""
        self.close_session()
        for process in self.processes:
            process.ask_to_stop()
        for process in self.processes:
            process.stop()
        left = processes_marked(self.name)
        for process in left:
            process.kill()
        assert not left, f"left over: {left}"


def _end_offsets(consumer: Consumer, topic: str) -> dict[int, int]:
    """Nothing while the topic is so new that not all brokers know of it."""
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in partitions}
    except KafkaException:
        return {}


@contextmanager
def installed(servers: Servers, folder: Path) -> Iterator[Installation]:
    installation = Installation(servers, folder)
    installation.create()
    try:
        yield installation
    finally:
        installation.close()


def processes_marked(name: str) -> list[psutil.Process]:
    """Processes, wherever they hang in the tree, that were started with this test's environment."""
    return [process for process in psutil.process_iter() if _mark_of(process) == name and runs(process)]


def _mark_of(process: psutil.Process) -> str | None:
    try:
        mark: str | None = process.environ().get(MARK)
    except psutil.Error:  # gone, or not ours to look at
        return None
    return mark


def runs(process: psutil.Process) -> bool:
    """A zombie does not; nor does one that ends while we look."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def http_status(address: str, path: str) -> int | None:
    """The status of a GET; None if nobody answers."""
    connection = HTTPConnection(address, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
