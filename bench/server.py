"""What answers `POST /call/end`: the door, or what others would run; and what posting to it shows."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from statistics import quantiles
from typing import Final

import psutil

from bench.meter import Meter, Sample
from bench.peers import Peer
from bench.peers import python as peers_python
from bench.place import Place
from bench.posts import Answers, Plan
from processor import child
from processor.embedded.ports import LOOPBACK, free_port
from tests.stack import START_TIMEOUT_S, wait_until, wait_until_ready

WARM_S: Final = 1.0
KEY: Final = "a key for the bench, long enough"


@dataclass(frozen=True, slots=True)
class Server:
    """Something that listens on `port`; `meter`: of it, and of the broker where that takes part."""

    port: int
    meter: Meter


@contextmanager
def door(place: Place, *, processes: int = 1, keys: bool = False, **settings: str) -> Iterator[Server]:
    with place.topic() as topic, place.installation(topic) as installation:
        if keys:
            file = place.folder / "keys.toml"
            file.write_text(f'[keys.bench]\nsha256 = "{sha256(KEY.encode()).hexdigest()}"\nprojects = ["acme/*"]\n')
            settings["INGEST__KEYS_FILE"] = str(file)
        listen = f"{LOOPBACK}:{free_port()}"
        process = installation.start("ingest", "--processes", str(processes), INGEST__LISTEN=listen, **settings)
        wait_until_ready(process)
        assert process.pid is not None
        assert place.kafka.pid is not None
        yield _warm(int(listen.rpartition(":")[2]), Meter({"door": process.pid, "broker": place.kafka.pid}), keys=keys)


@contextmanager
def echo(place: Place) -> Iterator[Server]:
    port = free_port()
    with _serving(Peer("echo", LOOPBACK, str(port), folder=place.folder), port) as pid:
        yield _warm(port, Meter({"door": pid}))


@contextmanager
def fastapi(place: Place) -> Iterator[Server]:
    port = free_port()
    with place.topic() as topic:
        arguments = (LOOPBACK, str(port), place.kafka.bootstrap_servers, topic)
        peer = Peer("fastapi_door", *arguments, folder=place.folder, python=peers_python())
        assert place.kafka.pid is not None
        with _serving(peer, port) as pid:
            yield _warm(port, Meter({"door": pid, "broker": place.kafka.pid}))


@contextmanager
def _serving(peer: Peer, port: int) -> Iterator[int]:
    peer.launch()
    try:
        assert peer.pid is not None
        server = psutil.Process(peer.pid)

        def listens() -> bool:
            peer.assert_runs()
            return any(one.laddr.port == port for one in server.net_connections() if one.status == psutil.CONN_LISTEN)

        wait_until(listens, within_s=START_TIMEOUT_S, what=f"{peer.name} listens")
        yield peer.pid
    finally:
        peer.kill()


def _warm(port: int, meter: Meter, *, keys: bool = False) -> Server:
    answers(Plan(port, seconds=WARM_S, key=KEY if keys else ""))
    return Server(port, meter)


def post(server: Server, plan: Plan) -> Sample:
    """Every answer must be 200. `unsent`, where the rate is given: a figure, as a busy machine is no defect."""
    sample, got = posted(server, plan)
    assert set(got.status) == {200}, f"answers: {sorted(set(got.status))}"
    assert not got.broken, f"{got.broken} connections broke"
    unsent = {"unsent": got.unsent} if plan.per_s else {}
    return sample | spans("", got.latencies_ms(200)) | unsent | {"door MiB": server.meter.peak_mib()["door"]}


def posted(server: Server, plan: Plan) -> tuple[Sample, Answers]:
    before = server.meter.cpu_s()
    got = answers(plan)
    used = {name: cpu_s - before[name] for name, cpu_s in server.meter.cpu_s().items()} | {"load": got.cpu_s}
    count = len(got.status)
    rate = {"requests/s": got.status.count(200) / seconds(got)}
    return rate | {f"{name} us": 1e6 * cpu_s / count for name, cpu_s in used.items()}, got


def seconds(got: Answers) -> float:
    return max(got.at_s) - min(at_s - took_s for at_s, took_s in zip(got.at_s, got.took_s, strict=True))


def spans(what: str, milliseconds: list[float]) -> Sample:
    if len(milliseconds) < 2:
        return {f"{what}p50 ms": 0.0, f"{what}p99 ms": 0.0}
    of_hundred = quantiles(milliseconds, n=100, method="inclusive")
    return {f"{what}p50 ms": of_hundred[49], f"{what}p99 ms": of_hundred[98]}


def answers(plan: Plan) -> Answers:
    with tempfile.TemporaryDirectory() as folder:
        return finish(start(plan, Path(folder) / "answers"), Path(folder) / "answers")


def start(plan: Plan, file: Path) -> "subprocess.Popen[bytes]":
    return child.spawn([sys.executable, "-m", "bench.posts", json.dumps(asdict(plan)), str(file)])


def finish(posting: "subprocess.Popen[bytes]", file: Path) -> Answers:
    assert posting.wait() == 0, "posting failed"
    return Answers(**json.loads(file.read_text()))
