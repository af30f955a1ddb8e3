"""Every secret is replaced while calls come in all the time: all are taken in the end, and each is counted once."""

import itertools
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

import httpx
import psycopg
import pytest

from processor.embedded.ports import LOOPBACK, free_port
from processor.sample.oracle import expect
from processor.sample.posts import Post, sample
from tests.certificates import Authority
from tests.estate import Estate, estate
from tests.guarded import Guarded
from tests.laws import assert_nothing_is_lost, assert_totals_equal
from tests.secured_postgres import dsn_of, guarded_postgres, set_up, write_password
from tests.stack import Process, Servers, wait_until, wait_until_ready

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
CLIENTS: Final = 3
PAUSE_S: Final = 0.3
TRIES_S: Final = 30  # of one call, as the SDK's attempts take that long and longer
TAKEN_UP_S: Final = 15


@dataclass(slots=True)
class Clients:
    """They post call after call, each until it is taken; no answer may tell one to give up. `key`, `doors`: from now
    on. They trust `authority`, and keep no connection."""

    authority: Authority
    key: str
    doors: list[str]
    posted: list[Post] = field(default_factory=list)  # and taken
    _ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, seed: int) -> None:
        context = ssl.create_default_context(cafile=str(self.authority.file))
        for post in itertools.chain.from_iterable(_posts(seed + at) for at in itertools.count()):
            self._until_taken(post, context)
            if self._ended.wait(PAUSE_S):
                return

    def end(self) -> None:
        self._ended.set()

    def once(self, content: bytes, context: ssl.SSLContext, key: str | None = None) -> int | None:
        """The status, None if there is no answer."""
        headers = {"content-type": "application/json", "authorization": f"Bearer {key or self.key}"}
        try:
            with httpx.Client(verify=context, timeout=15) as client:
                return client.post(f"{self.doors[-1]}/call/end", content=content, headers=headers).status_code
        except httpx.TransportError:
            return None

    def _until_taken(self, post: Post, context: ssl.SSLContext) -> None:
        def is_taken() -> bool:
            status = self.once(post.body, context)
            assert status in {None, 200, 503}, f"the answer {status} makes a client give the call up"
            return status == 200

        wait_until(is_taken, within_s=TRIES_S, what="a call is taken")
        with self._lock:
            self.posted.append(post)


def _posts(seed: int) -> list[Post]:
    """Good ones, plain."""
    posts = sample(seed, now=datetime.now(UTC), calls=50, bad=False)
    return [post for post in posts if "content-encoding" not in dict(post.headers)]


@contextmanager
def posting(clients: Clients) -> Iterator[None]:
    with ThreadPoolExecutor(CLIENTS) as pool:
        runs = [pool.submit(clients.run, 1000 * (number + 1)) for number in range(CLIENTS)]
        try:
            yield
        finally:
            clients.end()
        for run in runs:
            run.result()


@dataclass(slots=True)
class Scene:
    one: Estate
    clients: Clients
    database: str  # of the superuser
    dsn: str  # of the worker
    door: dict[str, str]  # settings
    roles: list[Process] = field(default_factory=list)  # ingest, worker

    @property
    def folder(self) -> Path:
        return self.one.installation.folder

    def start_roles(self, password: str) -> None:
        """A door and a worker more, with this password for Kafka; ready."""
        installation = self.one.installation
        users = {role: self.one.scram(self.one.name(role), password) for role in ("ingest", "worker")}
        listen = f"localhost:{free_port()}"
        ingest, _ = installation.start_ingest(listen, **self.door, **users["ingest"])
        worker = installation.start_worker(POSTGRES__DSN=self.dsn, **users["worker"])
        wait_until_ready(ingest, worker)
        self.clients.doors.append(f"https://{listen}")
        self.roles = [ingest, worker]

    def counting_goes_on(self) -> None:
        """Calls are counted that were posted after this moment."""
        posted = len(self.clients.posted)
        wait_until(lambda: len(self.clients.posted) > posted + CLIENTS, within_s=TRIES_S, what="calls are taken")
        self.one.installation.wait_until_counted()


@contextmanager
def scene(servers: Servers, guarded: Guarded, folder: Path) -> Iterator[Scene]:
    with (
        guarded_postgres(folder / "postgres") as server,
        estate(replace(servers, dsn=server.dsn), guarded, folder, migrated=False) as one,
    ):
        one.installation.create_topics()
        for role, acls in one.printed().items():
            one.allow(one.name(role), acls)
        address = f"{LOOPBACK}:{server.port}"
        set_up(server, one.installation.name)
        one.installation.output("migrate", POSTGRES__DSN=dsn_of("calls_migrate", address, folder))
        authority = Authority(folder)
        issued = authority.issue(folder, "door", "localhost")
        door = {
            "INGEST__TLS_CERT_FILE": str(issued.certificate),
            "INGEST__TLS_KEY_FILE": str(issued.key),
            "INGEST__KEYS_FILE": str(write_keys(folder, OLD)),
        }
        yield Scene(one, Clients(authority, OLD, []), server.dsn, dsn_of("calls_worker", address, folder), door)


OLD, NEW = "key-of-the-old-days-0123456789", "key-of-the-new-days-0123456789"


def write_keys(folder: Path, *keys: str) -> Path:
    fresh = folder / "keys.new"
    fresh.write_text(
        "".join(f'[keys."{key}"]\nsha256 = "{sha256(key.encode()).hexdigest()}"\nprojects = ["*/*"]\n' for key in keys)
    )
    return fresh.rename(folder / "keys.toml")


def test_every_secret_is_replaced_without_losing_a_call(servers: Servers, guarded: Guarded, tmp_path: Path) -> None:
    with scene(servers, guarded, tmp_path) as scene_:
        scene_.start_roles("first password")
        with posting(scene_.clients):
            scene_.counting_goes_on()
            replace_key(scene_)
            replace_certificate(scene_)
            replace_database_password(scene_)
            replace_kafka_password(scene_)
            scene_.counting_goes_on()
        installation, clients = scene_.one.installation, scene_.clients
        counters = installation.wait_until_counted()
        expected = expect(post.parsed() for post in clients.posted)
        assert_totals_equal(installation, expected)
        assert_nothing_is_lost(installation)
        assert counters.counted == expected.calls


def replace_key(scene: Scene) -> None:
    """Both are valid for a while."""
    context = ssl.create_default_context(cafile=str(scene.clients.authority.file))
    write_keys(scene.folder, OLD, NEW)
    wait_until(lambda: scene.clients.once(b"{}", context, NEW) == 422, within_s=TAKEN_UP_S, what="the new key is known")
    scene.clients.key = NEW
    posted = len(scene.clients.posted)
    wait_until(lambda: len(scene.clients.posted) > posted + CLIENTS, within_s=TRIES_S, what="all have the new key")
    write_keys(scene.folder, NEW)
    wait_until(lambda: scene.clients.once(b"{}", context, OLD) == 401, within_s=TAKEN_UP_S, what="the old key is gone")


def replace_certificate(scene: Scene) -> None:
    host, port = scene.clients.doors[-1].removeprefix("https://").split(":")
    before = ssl.get_server_certificate((host, int(port)))
    scene.clients.authority.issue(scene.folder, "door", "localhost")
    wait_until(
        lambda: ssl.get_server_certificate((host, int(port))) != before,
        within_s=TAKEN_UP_S, what="the new certificate is served",
    )  # fmt: skip
    scene.counting_goes_on()


def replace_database_password(scene: Scene) -> None:
    """The session goes on with the old one. When it has to connect anew before the file is replaced, it waits."""
    with psycopg.connect(scene.database, autocommit=True) as connection:
        connection.execute("ALTER ROLE calls_worker PASSWORD 'another one'")
        scene.counting_goes_on()
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'calls_worker'")
        log = scene.roles[1].log
        wait_until(
            lambda: "password authentication failed" in log.read_text(), within_s=TAKEN_UP_S, what="it is refused"
        )
        write_password(scene.folder, "calls_worker", "another one")
    scene.counting_goes_on()


def replace_kafka_password(scene: Scene) -> None:
    """Connections go on with the old one; new processes bring the new one, then the old processes go."""
    old = scene.roles
    scene.start_roles("second password")
    for process in old:
        process.stop()
    assert [process.poll() for process in old] == [0, 0]
