"""Behind PgBouncer: refused where it shares sessions, at work where it does not; over TLS, which PgBouncer ends."""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from processor.child import Child, spawn
from processor.deadline import Deadline
from processor.embedded.ports import LOOPBACK, free_port
from processor.errors import Stop
from processor.sinks.postgres.connection import connect
from tests.certificates import Authority
from tests.laws import assert_each_call_counted_once
from tests.produce import Calls, streaming
from tests.secured_postgres import PASSWORDS, dsn_of, guarded_postgres, set_up
from tests.stack import Installation, Servers, wait_until, wait_until_ready

SHARED: Final = "gives each transaction another session (PgBouncer with pool_mode=transaction)"
pytestmark = [pytest.mark.ops, pytest.mark.timeout(200)]
NOBODY: Final = (65534, 65534)  # it refuses to run as root
PROGRAM: Final = "/usr/sbin/pgbouncer"


class PgBouncer(Child):
    name = "PgBouncer"

    def __init__(self, folder: Path, server: str, settings: Sequence[str]) -> None:
        self.port = free_port()
        self.address = f"{LOOPBACK}:{self.port}"
        host, _, port = server.rpartition(":")
        users = "".join(f'"{user}" "{password}"\n' for user, password in PASSWORDS.items())
        (folder / "users").write_text(users)
        lines = [
            "[databases]", f"postgres = host={host} port={port}",
            "[pgbouncer]", f"listen_addr = {LOOPBACK}", f"listen_port = {self.port}", "unix_socket_dir =",
            "auth_type = scram-sha-256", "auth_file = users", *settings,
        ]  # fmt: skip
        (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        self._folder = folder
        self._log = folder.with_suffix(".log")
        self._user = NOBODY if os.getuid() == 0 else None
        for file in (folder, *folder.iterdir()) if self._user else ():
            shutil.chown(file, *NOBODY)

    def launch(self) -> None:
        if not Path(PROGRAM).exists():
            pytest.fail("PgBouncer is missing: apt-get install pgbouncer")
        with self._log.open("ab") as log:
            self._process = spawn([PROGRAM, "pgbouncer.ini"], output=log, cwd=self._folder, user=self._user)
        wait_until(self._answers, within_s=10, what="PgBouncer listens")

    def _answers(self) -> bool:
        assert self.poll() is None, self._log.read_text()
        return "process up" in self._log.read_text()


@pytest.fixture(scope="module")
def installation(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """On a database that asks for passwords, migrated by its owner, without a pooler."""
    folder = tmp_path_factory.mktemp("pooled")
    with guarded_postgres(folder / "server") as server:
        installation = Installation(Servers(servers.bootstrap_servers, server.dsn), folder)
        installation.create_topics()
        set_up(server, installation.name)
        installation.output("migrate", POSTGRES__DSN=dsn_of("calls_migrate", f"{LOOPBACK}:{server.port}", folder))
        try:
            yield installation
        finally:
            installation.close()


@contextmanager
def pooled(
    installation: Installation, *settings: str, files: Iterable[Path] = (), **parameters: object
) -> Iterator[Callable[[str], str]]:
    """What gives the connection string of a role, through a PgBouncer that has these files beside its own."""
    folder = Path(tempfile.mkdtemp(dir=installation.folder))
    for file in files:
        shutil.copy(file, folder)
    server = conninfo_to_dict(installation.servers.dsn)
    bouncer = PgBouncer(folder, f"{server['host']}:{server['port']}", settings)
    bouncer.launch()
    try:
        yield lambda role: dsn_of(role, bouncer.address, installation.folder, **parameters)
    finally:
        bouncer.stop()


def test_sessions_that_are_shared_are_refused(installation: Installation) -> None:
    with pooled(installation, "pool_mode = transaction") as dsn:
        for role, command in (("worker", "worker"), ("migrate", "migrate"), ("reader", "usage")):
            ended = installation.run(
                command, POSTGRES__DSN=dsn(f"calls_{role}"), ADMIN__LISTEN=f"{LOOPBACK}:{free_port()}"
            )
            assert (ended.returncode, SHARED in ended.stdout + ended.stderr) == (3, True), ended.stderr


def test_sessions_that_are_shared_are_refused_while_others_use_them(installation: Installation) -> None:
    with pooled(installation, "pool_mode = transaction", "default_pool_size = 8") as dsn, busy(dsn("calls_reader"), 4):
        for _ in range(100):
            with pytest.raises(Stop, match="pool_mode=transaction"):
                connect(dsn("calls_reader"), Deadline.after(20)).close()


@contextmanager
def busy(dsn: str, clients: int) -> Iterator[None]:
    """So many others, each in one short transaction after the other."""
    ended = threading.Event()

    def use() -> None:
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
            while not ended.is_set():
                with connection.transaction():
                    connection.execute("SELECT count(*) FROM usage_hourly")

    with ThreadPoolExecutor(clients) as pool:
        uses = [pool.submit(use) for _ in range(clients)]
        try:
            yield
        finally:
            ended.set()
        for client in uses:
            client.result()


def test_a_session_of_ones_own_over_tls_and_with_a_certificate_is_as_good_as_the_server(
    installation: Installation, tmp_path: Path
) -> None:
    authority = Authority(installation.folder)
    authority.issue(tmp_path, "server", LOOPBACK)
    client = authority.issue(installation.folder, "client", "client.test", common_name="calls_worker")
    settings = (
        "pool_mode = session", "client_tls_sslmode = verify-full", "client_tls_ca_file = ca.pem",
        "client_tls_cert_file = server.crt", "client_tls_key_file = server.key",
    )  # fmt: skip
    files = [authority.file, tmp_path / "server.crt", tmp_path / "server.key"]
    trusting = {"sslmode": "verify-full", "sslrootcert": authority.file}
    certificate = {"sslcert": client.certificate, "sslkey": client.key}
    calls = Calls(installation, seed=5)
    with pooled(installation, *settings, files=files, **trusting, **certificate) as dsn:
        workers = [installation.start_worker(POSTGRES__DSN=dsn("calls_worker")) for _ in range(2)]
        wait_until_ready(*workers)
        with streaming(calls):
            installation.wait_until_counting()
            workers[0].kill()
            installation.wait_until_counting(within_s=60)
        assert_each_call_counted_once(installation, calls.expected())
        assert "OK" in installation.output("verify", POSTGRES__DSN=dsn("calls_worker"))
