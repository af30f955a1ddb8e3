"""Everything on this machine: Kafka and PostgreSQL (embedded, unless configured), one ingest, some workers, supervised.

    with Interrupts() as interrupts, Stack(state, settings, say) as stack:
        stack.start_servers()            # Kafka, PostgreSQL
        stack.prepare()                  # `call-processor topics`, `call-processor migrate`
        stack.start_roles(workers=2)     # returns when every /readyz answers 200
        stack.supervisor.run(interrupts)

Leaving it stops all in order: ingest, workers, Kafka, PostgreSQL. One stack per state folder, held by a lock.
"""

import fcntl
import shlex
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Final, Self

from processor.child import Child
from processor.config import ENV_FILE, PREFIX, Settings
from processor.embedded.kafka import EmbeddedKafka
from processor.embedded.ports import listen_addresses, url_of
from processor.embedded.postgres import EmbeddedPostgres
from processor.errors import ExitCode, Stop
from processor.supervise import LOOK_EVERY_S, Program, Supervisor

REMIND_EVERY_S: Final = 10.0
# Workers that start together join in one rebalance; else the second one would wait for the first one's next heartbeat.
JOIN_TOGETHER: Final = {"group.initial.rebalance.delay.ms": "500"}


class Stack:
    """`kafka` and `postgres` are None where the settings name a server; `ingest`, `workers`: the children, by index.

    `say` takes a sentence about progress; `kafka_options`, `postgres_options` go to the embedded servers as they are;
    `impatient`: asked while stopping, true means by force.
    """

    def __init__(
        self,
        state_dir: Path,
        settings: Settings,
        say: Callable[[str], None],
        *,
        kafka_options: Mapping[str, Any] | None = None,
        postgres_options: Mapping[str, Any] | None = None,
        impatient: Callable[[], bool] = lambda: False,
    ) -> None:
        self.state_dir = state_dir.absolute()
        self.settings = settings
        self.kafka: EmbeddedKafka | None = None
        self.postgres: EmbeddedPostgres | None = None
        self.ingest: list[Program] = []
        self.workers: list[Program] = []
        self.supervisor = Supervisor([], say)
        self.ingest_url = ""
        self.admin_urls: dict[str, list[str]] = {"ingest": [], "worker": []}
        self._say = say
        self._impatient = impatient
        if not settings.kafka.bootstrap_servers:
            options = {"extra_properties": JOIN_TOGETHER, **(kafka_options or {})}
            self.kafka = EmbeddedKafka(self.state_dir / "kafka", progress=say, **options)
        if settings.postgres.dsn is None and settings.postgres.dsn_file is None:
            self.postgres = EmbeddedPostgres(self.state_dir / "postgres", progress=say, **(postgres_options or {}))

    def __enter__(self) -> Self:
        self._lock = _lock(self.state_dir)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._lock.close()

    def forget(self) -> None:
        """Remove the state of the embedded servers, and nothing else in the folder. Before `start_servers`."""
        for server in (self.kafka, self.postgres):
            if server is not None and server.state_dir.exists():
                _remove(server.state_dir)
                self._say(f"{server.name}: removed {server.state_dir}")

    def start_servers(self) -> None:
        """Both at the same time; says which servers are used."""
        if self.kafka is not None:
            self.kafka.launch()
        if self.postgres is not None:
            self.postgres.launch()
            self.postgres.wait()
        if self.kafka is not None:
            self.kafka.wait()
        self._say(f"Kafka: {self._choice(self.kafka, self.bootstrap_servers)}")
        self._say(f"PostgreSQL: {self._choice(self.postgres, 'CALL_PROCESSOR_POSTGRES__DSN')}")

    @property
    def bootstrap_servers(self) -> str:
        return self.settings.bootstrap_servers() if self.kafka is None else self.kafka.bootstrap_servers

    @property
    def dsn(self) -> str:
        return self.settings.dsn() if self.postgres is None else self.postgres.dsn

    @property
    def environment(self) -> dict[str, str]:
        """What our other commands need to know, without the prefix; what is configured they read themselves."""
        return {
            **({} if self.kafka is None else {"KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers}),
            **({} if self.postgres is None else {"POSTGRES__DSN": self.postgres.dsn}),
            "LOG__FORMAT": self.settings.log.format,
            "LOG__LEVEL": self.settings.log.level,
        }

    def command(self, *arguments: str) -> Program:
        """One of our commands, for this stack's servers; its output goes to stderr."""
        return Program(arguments[0], arguments, self.environment)

    def prepare(self) -> None:
        """Topics and tables, at the same time."""
        # Our own Kafka is one node. On a configured one the command's default applies: what production needs.
        replication = [] if self.kafka is None else ["--replication-factor", "1"]
        commands = [self.command("topics", *replication), self.command("migrate")]
        for command in commands:
            command.launch()
        for command in commands:
            command.finish()

    def start_roles(self, *, workers: int = 2) -> None:
        """One ingest and `workers` workers. Returns when all are ready; a `Stop` when they cannot be."""
        listen = listen_addresses("INGEST__LISTEN", self.settings.ingest, self._say, count=1)[0]
        admin = listen_addresses("ADMIN__LISTEN", self.settings.admin, self._say, count=1 + workers)
        self.ingest_url = url_of(listen, "http" if self.settings.ingest.tls_cert_file is None else "https")
        self.admin_urls = {"ingest": [url_of(admin[0])], "worker": [url_of(address) for address in admin[1:]]}
        door = {**self.environment, "INGEST__LISTEN": listen, "ADMIN__LISTEN": admin[0]}
        self.ingest = [Program("ingest", ["ingest"], door)]
        self.workers = [
            Program(f"worker {i}", ["worker"], {**self.environment, "ADMIN__LISTEN": address})
            for i, address in enumerate(admin[1:])
        ]
        servers = [[server] for server in (self.kafka, self.postgres) if server is not None]
        self.supervisor = Supervisor([self.ingest, self.workers, *servers], self._say)
        self.supervisor.start()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """As long as it takes: who waits for a server says so itself. Meanwhile dead children are started again."""
        remind_s = time.monotonic() + REMIND_EVERY_S
        for url in (*self.admin_urls["ingest"], *self.admin_urls["worker"]):
            while (answer := _readiness(url)) is not None:
                self.supervisor.look()
                if time.monotonic() > remind_s:
                    self._say(f"still waiting for {url}/readyz: {answer}")
                    remind_s += REMIND_EVERY_S
                time.sleep(LOOK_EVERY_S)

    def write_env_file(self) -> Path:
        """A file for the shell, `. <file>`: what it exports leads every command of ours to these servers. It goes when
        they stop, as the next start may choose other ports."""
        exports = [f"export {PREFIX}{name}={shlex.quote(value)}\n" for name, value in self.environment.items()]
        self._env_file.write_text("".join(exports), encoding="utf-8")
        return self._env_file

    @property
    def _env_file(self) -> Path:
        return self.state_dir / ENV_FILE.name

    def report(self) -> dict[str, Any]:
        """The line that `up` prints."""
        kafka = self.settings.kafka
        return {
            "ingest": self.ingest_url,
            "admin": self.admin_urls,
            "bootstrap_servers": self.bootstrap_servers,
            "dsn": self.dsn,
            "group": kafka.group,
            "topics": {"calls": kafka.topic, "dead_letters": kafka.dead_letters},
        }

    def stop(self) -> None:
        """In order. What `start_roles` did not reach is stopped as well."""
        self._env_file.unlink(missing_ok=True)
        stages: list[list[Child]] = [[*self.ingest], [*self.workers]]
        stages += [[server] for server in (self.kafka, self.postgres) if server is not None]
        Supervisor(stages, self._say).stop(self._impatient)

    def _choice(self, server: EmbeddedKafka | EmbeddedPostgres | None, configured: str) -> str:
        if server is None:
            return f"as configured, {configured}"
        where = f"127.0.0.1:{server.port} ({server.start_seconds:.1f} s), state in {server.state_dir}"
        return f"embedded {server.version} on {where}"


def _lock(folder: Path) -> IO[bytes]:
    """Held until the returned file is closed, or until we die."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("wb")
    except OSError as error:
        raise Stop(
            ExitCode.DEPENDENCY, f"{folder} cannot be used ({error.strerror}): name another by --state"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise Stop(
            ExitCode.DEPENDENCY,
            f"{folder} is in use by another `up` or `demo`: stop that one, or name another folder by --state",
        ) from None
    return file


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise Stop(
            ExitCode.DEPENDENCY, f"{folder} cannot be removed ({error.strerror}): name another folder"
        ) from error


def _readiness(url: str) -> str | None:
    """None: ready. Else why not."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=1):  # noqa: S310  # http, to ourselves
            return None
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read(200).decode(errors='replace').strip()}"
    except OSError as error:
        return str(error)
