"""The door as a real process in a network that means it no good: keys that change, a thousand slow bodies, secrets."""

import asyncio
import json
import resource
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from random import SystemRandom
from statistics import median
from typing import Final
from urllib.parse import urlsplit

import psutil
import pytest

from processor.kafka.topics import MIB
from tests.fuzz.campaign import Size, campaign, rss
from tests.group import metric
from tests.parallel import beside_others
from tests.stack import Installation, Process, http_status, wait_until, wait_until_ready

pytestmark = pytest.mark.stack

FUZZ: Final = Size(bodies=1_000_000, records=16_000, seconds=16)  # whatever is sent in so many seconds

MARK: Final = "hunter2"
OLD, NEW, SOON = f"{MARK}-old-schlüssel", f"{MARK}-new-key", f"{MARK}-expires-soon"


def entry(name: str, key: str, projects: str = "acme/*", expires_at: datetime | None = None) -> str:
    expiry = "" if expires_at is None else f"expires_at = {expires_at.isoformat()}\n"
    digest = sha256(key.encode()).hexdigest()
    return f'[keys.{name}]\nsha256 = "{digest}"\nprojects = ["{projects}"]\n{expiry}'


def call(project_id: str = "acme/chat") -> bytes:
    end = {"project_id": project_id, "id": f"call-{time.monotonic_ns()}", "summary": {}}
    return json.dumps({"end": {**end, "ended_at": datetime.now(UTC).isoformat()}}).encode()


def status(url: str, key: str, project_id: str = "acme/chat") -> int:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        authorization = "Basic " + b64encode(f"api:{key}".encode()).decode()
        headers = {"content-type": "application/json", "authorization": authorization}
        connection.request("POST", "/call/end", call(project_id), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def wait_for_status(url: str, key: str, expected: int) -> None:
    wait_until(lambda: status(url, key) == expected, within_s=10, what=f"this key is answered {expected}")


# --- half a minute of `make fuzz`


@beside_others()
def test_no_request_and_no_record_harms_door_or_worker_and_what_the_door_takes_is_counted(
    installation: Installation,
) -> None:
    seed = SystemRandom().getrandbits(32)
    report = campaign(installation, seed, FUZZ)
    assert not report.faults, f"again with make fuzz ARGS='--seed {seed}':\n" + "\n".join(report.lines())
    assert report.answers.sent > 1000
    assert {200, 401, 403, 404, 405, 413, 415, 422} <= report.answers.statuses.keys()
    assert report.accepted.counted > 0
    assert min(report.hostile.counted, report.hostile.dead_lettered, report.hostile.skipped) > 0


# --- keys


@beside_others()
def test_keys_are_replaced_broken_and_mended_under_a_running_door(installation: Installation) -> None:
    file = installation.folder / "keys.toml"
    door, url = installation.start_ingest(INGEST__KEYS_FILE=str(file))
    wait_until(lambda: http_status(door.admin, "/livez") == 200, within_s=20, what="it runs")
    wait_for_status(url, OLD, 503)
    assert http_status(door.admin, "/readyz") == 503, "without any keys it would turn everybody away"

    put(file, entry("old", OLD))
    wait_for_status(url, OLD, 200)
    wait_until_ready(door)
    assert [status(url, NEW), status(url, ""), status(url, OLD, "other/x")] == [401, 401, 403]

    ends = datetime.now(UTC) + timedelta(seconds=4)
    put(file, entry("old", OLD) + entry("new", NEW) + entry("soon", SOON, expires_at=ends))
    wait_for_status(url, NEW, 200)
    assert status(url, OLD) == 200, "both are valid for as long as both stand there"
    assert metric(door, "keys") == 3
    wait_for_status(url, SOON, 401)
    assert datetime.now(UTC) >= ends - timedelta(seconds=1)

    put(file, f'[keys.new]\nsha256 = "{MARK}"\n')
    wait_until(lambda: metric(door, "key_file_broken") == 1, within_s=10, what="it says that the file is broken")
    assert [status(url, NEW), status(url, OLD)] == [200, 200]
    assert http_status(door.admin, "/readyz") == 200

    put(file, entry("new", NEW))
    wait_for_status(url, OLD, 401)
    assert (status(url, NEW), metric(door, "key_file_broken")) == (200, 0)
    said = door.log.read_text(encoding="utf-8")
    assert "keys.new.sha256: must be the 64 hexadecimal digits" in said
    assert_nothing_told(installation, door)


def put(file: Path, content: str) -> None:
    """In one step, as whoever changes a file under a running process must."""
    fresh = file.with_suffix(".new")
    fresh.write_text(content, encoding="utf-8")
    fresh.rename(file)


def assert_nothing_told(installation: Installation, *processes: Process) -> None:
    """Neither a secret nor anything of a client in logs, metrics, and the arguments of processes."""
    for process in processes:
        assert process.pid is not None
        children = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert MARK not in " ".join(word for child in children for word in child.cmdline())
        connection = HTTPConnection(process.admin, timeout=10)
        connection.request("GET", "/metrics")
        assert MARK not in connection.getresponse().read().decode()
        connection.close()
    for log in installation.folder.glob("*.log"):
        assert MARK not in log.read_text(encoding="utf-8", errors="replace"), log.name


# --- secrets in the settings


@beside_others()
def test_no_command_and_no_failing_start_tells_a_secret(installation: Installation) -> None:
    keys, properties = installation.folder / "broken.toml", installation.folder / "kafka.properties"
    keys.write_text(f'[keys.a]\nsha256 = "{MARK}"\nprojects = "{MARK}"\nnothing = {MARK}\n')
    properties.write_text(f"sasl.password={MARK}\nsasl.mechanism={MARK}\nssl.key.password={MARK}\n{MARK}\n")
    secret = {
        "POSTGRES__DSN": f"postgresql://nobody:{MARK}@127.0.0.1:1/x?sslpassword={MARK}",
        "KAFKA__PROPERTIES_FILE": str(properties),
        "INGEST__KEYS_FILE": str(keys),
    }
    wrong = {"INGEST__LISTEN": MARK, "INGEST__KEY_REQUESTS_PER_S": MARK, "LOG__LEVEL": MARK}
    shown = [installation.run("config", *arguments, **secret) for arguments in ((), ("--json",))]
    failed = [
        installation.run("ingest", **secret),
        installation.run("worker", **secret),
        installation.run("migrate", **secret),
        installation.run("keys", "check", **secret),
        installation.run("demo", "--once", **secret),
        installation.run("config", **secret, **wrong),
        installation.run("usage", POSTGRES__DSN=f"postgresql://{MARK}:{MARK}@[{MARK}"),
    ]
    assert [ended.returncode for ended in shown] == [0, 0]
    assert all(ended.returncode in {2, 3} for ended in failed), [ended.returncode for ended in failed]
    for ended in (*shown, *failed):
        assert MARK not in ended.stdout + ended.stderr, ended.args
        assert "Traceback" not in ended.stderr


# --- bytes in flight

ATTACKERS: Final = 1000
BUDGET: Final = 32 * MIB
BODY: Final = 8 * MIB
PIECE: Final = bytes(16 * 1024)
REFUSED: Final = ATTACKERS / 10  # for want of budget, at least
ATTACK_S: Final = (6.0, 60.0)  # and until so many are refused, at most


@beside_others()
def test_a_thousand_large_and_slow_bodies_stay_within_the_budget_and_good_clients_are_served(
    installation: Installation,
) -> None:
    limits = {"INGEST__MAX_IN_FLIGHT_BYTES": str(BUDGET), "INGEST__MAX_BODY_BYTES": str(BODY)}
    with many_files():
        door, url = installation.start_ingest(**limits)
        wait_until_ready(door)
        for _ in range(20):
            assert status(url, "unused") == 200
        before = rss(door)
        good = Good(door, url)
        with good:
            answers = asyncio.run(attack(urlsplit(url).port or 0))
    measured = f"{good.line(before)}; the attackers' answers {dict(answers)}"
    assert answers[503] > REFUSED, measured
    assert answers.keys() <= {503, 408, 0}, measured
    assert good.statuses.keys() == {200}, measured
    assert good.statuses[200] > 20, measured
    assert BUDGET / 2 < good.most_in_flight <= BUDGET, measured
    assert good.most_rss - before < 3 * BUDGET, measured
    wait_until(lambda: metric(door, "in_flight_bytes") == 0, within_s=20, what="all is given back")


class Good:
    """A client that posts one call after the other, and looks at the door's gauge and memory."""

    def __init__(self, door: Process, url: str) -> None:
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []
        self.most_in_flight = self.most_rss = 0
        self._door, self._url = door, url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Good":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            began_s = time.monotonic()
            self.statuses[status(self._url, "unused")] += 1
            self.seconds.append(time.monotonic() - began_s)
            self.most_in_flight = max(self.most_in_flight, int(metric(self._door, "in_flight_bytes")))
            self.most_rss = max(self.most_rss, rss(self._door))

    def line(self, rss_before: int) -> str:
        return (
            f"good clients {dict(self.statuses)}, median {median(self.seconds) * 1000:.0f} ms, slowest "
            f"{max(self.seconds) * 1000:.0f} ms; at most {self.most_in_flight / MIB:.1f} of {BUDGET / MIB:.0f} MiB in "
            f"flight; memory {rss_before / MIB:.0f} to {self.most_rss / MIB:.0f} MiB"
        )


async def attack(port: int) -> "Counter[int]":
    """What the attackers were answered; 0: nothing, until they gave up."""
    began_s, refused = time.monotonic(), 0
    lines = ("POST /call/end HTTP/1.1", "host: x", "content-type: application/json", f"content-length: {BODY}", "", "")

    def goes_on() -> bool:
        least_s, most_s = ATTACK_S
        return time.monotonic() - began_s < (least_s if refused > REFUSED else most_s)

    async def one() -> int:
        nonlocal refused
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write("\r\n".join(lines).encode())
        answer = asyncio.ensure_future(reader.read(12))
        while not answer.done() and goes_on():
            writer.write(PIECE)
            await asyncio.wait([answer], timeout=0.5)
        said = answer.result() if answer.done() and not answer.exception() else b""
        answer.cancel()
        writer.close()
        code = int(said[9:12] or 0)
        refused += code == 503
        return code

    return Counter(await asyncio.gather(*(one() for _ in range(ATTACKERS))))


@contextmanager
def many_files() -> Iterator[None]:
    """Room for both ends of the connections, here and in what is started meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ATTACKERS * 3
    assert hard == resource.RLIM_INFINITY or hard >= wanted, f"raise the limit of open files to {wanted} (ulimit -Hn)"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
