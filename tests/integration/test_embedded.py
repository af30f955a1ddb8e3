"""The embedded servers, for real: they keep what they were told, whatever ended them, and leave no process behind."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from processor.embedded import pginstall
from processor.embedded.kafka import EmbeddedKafka
from processor.embedded.ports import LOOPBACK
from processor.embedded.postgres import EmbeddedPostgres
from processor.errors import ExitCode, Stop
from tests.stack import wait_until

PARENT = """
import sys, time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from processor.embedded.kafka import EmbeddedKafka
from processor.embedded.postgres import EmbeddedPostgres
kafka, postgres = EmbeddedKafka(Path(sys.argv[1], "kafka")), EmbeddedPostgres(Path(sys.argv[1], "postgres"))
kafka.launch(), postgres.start(), kafka.wait()
print(kafka.pid, postgres.pid, flush=True)
time.sleep(60)
"""


def publish(bootstrap_servers: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all"})
    producer.produce("t", value, partition=0)
    assert producer.flush(10) == 0


def published(bootstrap_servers: str, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "g", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition("t", 0, 0)])
    try:
        return [message.value() for message in consumer.consume(count, 10)]
    finally:
        consumer.close()


def cluster_id(bootstrap_servers: str) -> str:
    return str(AdminClient({"bootstrap.servers": bootstrap_servers}).list_topics(timeout=10).cluster_id)


def test_kafka_keeps_records_over_a_stop_and_a_crash_and_a_change_of_ports(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        for created in admin.create_topics([NewTopic("t", 1, 1)]).values():
            created.result(10)
        cluster = cluster_id(kafka.bootstrap_servers)
        publish(kafka.bootstrap_servers, b"before the crash")
        kafka.kill()
        assert kafka.pid is None
        assert kafka.poll() == -signal.SIGKILL
        kafka.start()
        publish(kafka.bootstrap_servers, b"after the crash")
    assert kafka.pid is None
    with EmbeddedKafka(tmp_path) as other:
        assert other.port != kafka.port
        assert cluster_id(other.bootstrap_servers) == cluster
        assert published(other.bootstrap_servers, 2) == [b"before the crash", b"after the crash"]


def test_postgres_keeps_what_was_committed_over_a_stop_and_crashes_and_a_change_of_ports(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, settings={"max_connections": "17"}) as postgres:
        with psycopg.connect(postgres.dsn) as connection:
            connection.execute("CREATE TABLE t AS SELECT current_setting('max_connections') AS x")
        postgres.kill()
        assert postgres.pid is None
        postgres.start()
        with psycopg.connect(postgres.dsn) as still_connected:  # its process must not keep the next start from working
            still_connected.execute("SELECT 1")
            os.kill(postgres.pid or 0, signal.SIGKILL)
            wait_until(lambda: postgres.pid is None, within_s=10, what="the server is gone")
            postgres.start()
            still_connected.close()
    with EmbeddedPostgres(tmp_path) as other:
        for dsn in (other.dsn, other.socket_dsn):
            with psycopg.connect(dsn) as connection:
                assert connection.execute("SELECT x FROM t").fetchall() == [("17",)]


def test_servers_lead_sessions_of_their_own_so_that_ctrl_c_does_not_reach_them(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path) as postgres:
        assert postgres.pid is not None
        assert os.getsid(postgres.pid) == postgres.pid


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is best effort")
def test_nothing_is_left_when_the_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, tmp_path], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    servers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    family = [*servers, *(child for server in servers for child in server.children(recursive=True))]
    assert len(family) > 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not [p for p in family if is_alive(p)], within_s=10, what="all are gone")


def is_alive(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


def test_a_taken_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        for server in (EmbeddedKafka(tmp_path / "k", port=port), EmbeddedPostgres(tmp_path / "p", port=port)):
            with pytest.raises(Stop, match=f"port {port} of 127.0.0.1 is taken") as stop:
                server.start()
            assert stop.value.exit_code == ExitCode.DEPENDENCY


def test_a_server_that_cannot_start_says_why_and_where_its_log_is(tmp_path: Path) -> None:
    with pytest.raises(Stop, match=r"PostgreSQL ended while it started: see .*postgres\.log.*nonsense"):
        EmbeddedPostgres(tmp_path / "p", settings={"nonsense": "1"}).start()
    with pytest.raises(Stop, match=r"Kafka .*: see .*kafka\.log.*nonsense for configuration"):
        EmbeddedKafka(tmp_path / "k", extra_properties={"node.id": "nonsense"}).start()


@pytest.fixture
def copies() -> Iterator[Path]:
    """A folder that everybody may enter."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "copies"


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root on Linux changes users")
def test_root_may_keep_its_state_and_its_packages_where_nobody_else_may_enter(
    tmp_path: Path, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"  # as pytest's own folder above it is
    closed.mkdir(mode=0o700)
    package = pginstall.installed().parent
    for folder in (package, package.with_name(f"{package.name}.libs")):
        (closed / folder.name).symlink_to(folder)
    monkeypatch.setattr(pginstall, "installed", lambda: closed / package.name / pginstall.INSTALL)
    monkeypatch.setattr(pginstall, "COPIES", copies)
    said: list[str] = []
    with EmbeddedPostgres(closed / "state", progress=said.append) as postgres:
        with psycopg.connect(postgres.dsn) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert [sentence for sentence in said if "refuses to run as root" in sentence]
        assert [sentence for sentence in said if str(copies) in sentence]
