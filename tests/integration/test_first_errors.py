"""The first things that go wrong: one sentence that says what to do, an exit code, no traceback, no secret."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg import sql

from processor.deadline import Deadline
from processor.embedded.ports import LOOPBACK, free_ports
from processor.kafka.topics import MIB, Topics, TopicSpec
from processor.sinks.postgres.migrate import migrate
from tests.guarded import Guarded
from tests.kafka_admin import alter
from tests.stack import Installation, Process, Servers, http_status, installed, wait_until

pytestmark = pytest.mark.stack

SECRET: Final = "hunter2"
AT_A_TIME: Final = 3
SAYS_EVERY_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Case:
    """A command, settings that differ from those of an installation where all is well, and what must come of it.

    {name} stands for the installation's name, {folder} for its folder.
    """

    command: str
    code: int
    sentence: str
    settings: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def dsn(schema: str = "{name}", user: str = "postgres", port: str = "{port}") -> str:
    return f"postgresql://{user}:{SECRET}@{LOOPBACK}:{port}/postgres?options=-csearch_path%3D{schema}"


BROKERS, TOPIC, LETTERS = "KAFKA__BOOTSTRAP_SERVERS", "KAFKA__TOPIC", "KAFKA__DEAD_LETTER_TOPIC"
PROPERTIES, DSN = "KAFKA__PROPERTIES_FILE", "POSTGRES__DSN"
NOBODY: Final = f"{LOOPBACK}:1"
SASL: Final = {BROKERS: "{sasl}", PROPERTIES: "{folder}/sasl"}
ACKS: Final = {PROPERTIES: "{folder}/acks"}
AWAY, EMPTY, NEWER = {DSN: dsn(port="1")}, {DSN: dsn("{name}_empty")}, {DSN: dsn("{name}_newer")}
REFUSED: Final = "the Kafka brokers refuse this client (sasl_plaintext://"
MISSING: Final = "topic never.made does not exist: run `call-processor topics`"
TAKEN: Final = "is taken by another program: stop that one, or set CALL_PROCESSOR_ADMIN__LISTEN"
MIGRATE: Final = "the database is not migrated: run `call-processor migrate`"
UPGRADE: Final = "the database is newer than this program"

CASES: Final = {
    "no broker is set": Case("worker", 2, "KAFKA__BOOTSTRAP_SERVERS is not set", {BROKERS: ""}),
    "no broker answers `topics`": Case("topics", 3, "check CALL_PROCESSOR_KAFKA__BOOTSTRAP", {BROKERS: NOBODY}),
    "a broker without a port": Case("worker", 2, "SERVERS: must be host:port", {BROKERS: "kafka.example"}),
    "a broker's name that nobody knows": Case("topics", 3, "no Kafka broker answers (", {BROKERS: "no.invalid:1"}),
    "too few brokers": Case("topics", 3, "give `call-processor topics` --replication-factor", {TOPIC: "{name}.new"}),
    "SASL refuses the worker": Case("worker", 3, REFUSED, SASL),
    "SASL refuses `topics`": Case("topics", 3, REFUSED, SASL),
    "no CA file": Case("worker", 2, "Kafka client refuses its configuration", {PROPERTIES: "{folder}/ca"}),
    "properties that contradict": Case("worker", 2, "Kafka client refuses its", {PROPERTIES: "{folder}/waits"}),
    "a property that is ours (worker)": Case("worker", 2, "\n  acks: not yours to set", ACKS),
    "a property that is ours (door)": Case("ingest", 2, "\n  acks: not yours to set", ACKS),
    "too short a session": Case("worker", 2, "SESSION_TIMEOUT_S: must be", {"WORKER__SESSION_TIMEOUT_S": "5"}),
    "no topic": Case("worker", 3, MISSING, {TOPIC: "never.made"}),
    "no dead-letter topic": Case("worker", 3, MISSING, {LETTERS: "never.made"}),
    "a compacted topic": Case("worker", 4, "is compacted", {TOPIC: "{name}.compacted"}),
    "a topic with its producers' time": Case("worker", 4, "type=LogAppendTime", {TOPIC: "{name}.created"}),
    "no database is set": Case("worker", 2, "POSTGRES__DSN or POSTGRES__DSN_FILE is not set", {DSN: ""}),
    "no connection string": Case("migrate", 2, "not hold a connection string", {DSN: f"host={LOOPBACK} {SECRET}"}),
    "no database answers the worker": Case("worker", 3, "not reachable at 127.0.0.1:1 (the connection is re", AWAY),
    "no database answers `migrate`": Case("migrate", 3, "PostgreSQL is not reachable", AWAY),
    "no database answers `usage`": Case("usage", 3, "check CALL_PROCESSOR_POSTGRES__DSN", AWAY),
    "a database that refuses us": Case("worker", 3, 'connection (role "nobody" does', {DSN: dsn(user="nobody")}),
    "no schema": Case("migrate", 3, "CREATE SCHEMA first", {DSN: dsn("{name}_none")}),
    "not migrated (worker)": Case("worker", 3, MIGRATE, EMPTY),
    "not migrated (usage)": Case("usage", 3, MIGRATE, EMPTY),
    "a newer database (worker)": Case("worker", 4, UPGRADE, NEWER),
    "a newer database (usage)": Case("usage", 4, UPGRADE, NEWER),
    "a taken port": Case(
        "worker",
        3,
        TAKEN,
        {"ADMIN__LISTEN": f"{LOOPBACK}:{{taken}}"},
    ),
    "a broken library": Case("worker", 3, "cannot be imported", environment={"PYTHONPATH": "{folder}/broken"}),
}


@dataclass(slots=True)
class World:
    """An installation, what is broken beside it, and the ends of all cases as they come."""

    installation: Installation
    waiting: Process  # a worker without a broker
    ends: dict[str, Future[tuple[int, str]]] = field(default_factory=dict)

    def run(self, case: Case, places: Mapping[str, str]) -> tuple[int, str]:
        """Exit code and all that was said."""
        admin, door = free_ports(2)
        settings = {DSN: dsn(), "ADMIN__LISTEN": f"{LOOPBACK}:{admin}", "INGEST__LISTEN": f"{LOOPBACK}:{door}"}
        settings |= case.settings
        environment = self.installation.environment(**filled(settings, places)) | filled(case.environment, places)
        ended = subprocess.run(
            [sys.executable, "-m", "processor", case.command],
            env=environment, cwd=self.installation.folder, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return ended.returncode, ended.stdout + ended.stderr


def filled(texts: Mapping[str, str], places: Mapping[str, str]) -> dict[str, str]:
    return {name: text.format(**places) for name, text in texts.items()}


@pytest.fixture(scope="module")
def world(servers: Servers, guarded: Guarded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("first-errors")
    with (
        installed(servers, folder) as installation,
        socket.create_server((LOOPBACK, 0)) as taken,
        ThreadPoolExecutor(AT_A_TIME) as pool,
    ):
        world = World(installation, installation.start_worker(KAFKA__BOOTSTRAP_SERVERS=NOBODY))
        make_files(folder, guarded)
        make_topics(installation)
        make_schemas(installation)
        places = {
            "name": installation.name,
            "folder": str(folder),
            "port": servers.dsn.rpartition(":")[2].partition("/")[0],
            "sasl": guarded.sasl_servers,
            "taken": str(taken.getsockname()[1]),
        }
        world.ends = {name: pool.submit(world.run, case, places) for name, case in CASES.items()}
        yield world
        pool.shutdown(cancel_futures=True)  # of cases that nobody has asked for


def make_files(folder: Path, guarded: Guarded) -> None:
    Path(guarded.properties(folder, password=SECRET)[PROPERTIES]).rename(folder / "sasl")
    (folder / "acks").write_text(f"acks={SECRET}\n")
    (folder / "waits").write_text("receive.message.max.bytes=1000000\n")
    (folder / "ca").write_text("security.protocol=SSL\nssl.ca.location=/nonexistent/ca.pem\n")
    (folder / "broken").mkdir()
    (folder / "broken" / "pyruhvro.py").write_text("raise ImportError('libc.so.6: version GLIBC_9.99 not found')\n")


def make_topics(installation: Installation) -> None:
    topics = Topics({"bootstrap.servers": installation.servers.bootstrap_servers})
    wrong = {"compacted": {"cleanup.policy": "compact"}, "created": {"message.timestamp.type": "CreateTime"}}
    for name, config in wrong.items():
        topic = f"{installation.name}.{name}"
        topics.create(TopicSpec(topic, 1, 1, 7, MIB))
        topics.create(TopicSpec(f"{topic}.dlq", 1, 1, 30, 2 * MIB))
        alter(installation.servers.bootstrap_servers, topic, config)


def make_schemas(installation: Installation) -> None:
    empty, newer = (f"{installation.name}_{name}" for name in ("empty", "newer"))
    with psycopg.connect(installation.servers.dsn) as connection:
        for schema in (empty, newer):
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    there = installation.dsn.replace(installation.name, newer)
    migrate(there, Deadline.after(10))
    with psycopg.connect(there) as connection:
        connection.execute("UPDATE installation SET oldest_program = '99.0'")


@pytest.mark.parametrize("name", CASES)
def test_a_first_error_is_one_sentence_and_an_exit_code(world: World, name: str) -> None:
    code, said = world.ends[name].result()
    assert (code, CASES[name].sentence in said) == (CASES[name].code, True), said
    assert said.count("call-processor: ") == 1, said
    assert "Traceback" not in said
    assert SECRET not in said


def test_a_worker_without_a_broker_waits_and_says_so_every_ten_seconds(world: World) -> None:
    worker = world.waiting
    text = "no broker answers, waiting"
    wait_until(lambda: worker.log.read_text().count(text) >= 2, within_s=2 * SAYS_EVERY_S, what="it has said so twice")
    assert (http_status(worker.admin, "/livez"), http_status(worker.admin, "/readyz")) == (200, 503)
    said = [json.loads(line) for line in worker.log.read_text().splitlines()]
    times = [datetime.fromisoformat(line["timestamp"]) for line in said]
    assert {line["event"] for line in said} == {text}
    assert all(later - earlier > timedelta(seconds=SAYS_EVERY_S - 1) for earlier, later in pairwise(times))
    worker.stop()
    assert worker.poll() == 0
