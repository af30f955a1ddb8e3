"""One run: requests at the door, what it took through the worker, then records at the worker; and what is wrong."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Final
from urllib.parse import urlsplit

import psutil
from confluent_kafka import Producer

from processor.kafka.topics import MIB
from processor.sample import stored
from tests.fuzz.client import Answers, send
from tests.fuzz.records import is_counted, records
from tests.fuzz.requests import BODY_LIMIT, KEY_FILE, MARK, requests
from tests.laws import assert_nothing_is_lost
from tests.stack import Installation, Process, wait_until_ready

CONNECTIONS: Final = 16
WARM_UP: Final = 3000  # requests, after which the door's memory must stay as it is
GROWTH: Final = 48 * MIB  # of either process; the rest of what caches and arenas take until they settle
COUNTED_WITHIN_S: Final = 600.0
AT_A_TIME: Final = 10_000  # records


@dataclass(frozen=True, slots=True)
class Size:
    """`seconds`: the requests end then, however many were sent."""

    bodies: int
    records: int
    seconds: float = float("inf")


@dataclass(frozen=True, slots=True)
class Report:
    answers: Answers
    accepted: stored.Counters  # what the worker made of the door's records
    hostile: stored.Counters  # what it made of the others
    door_grew_bytes: int
    worker_grew_bytes: int
    faults: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        a = self.answers
        rate = a.sent / a.seconds
        yield f"{a.sent:,} requests in {a.seconds:.0f} s ({rate:,.0f}/s), the slowest answer {a.slowest_s:.2f} s"
        yield f"answers {_listed(a.statuses)}; to what is no sound HTTP (0: none) {_listed(a.wild)}"
        yield f"the door's records: {self.accepted.records_read:,}, dead letters {self.accepted.dead_lettered:,}"
        h = self.hostile
        yield (
            f"hostile records: {h.records_read:,}, counted {h.counted:,}, repeats {h.duplicates:,}, "
            f"dead letters {h.dead_lettered:,}, skipped {h.skipped:,}"
        )
        door, worker = self.door_grew_bytes / MIB, self.worker_grew_bytes / MIB
        yield f"memory grew by {door:.1f} MiB (door) and, over the second half, {worker:.1f} MiB (worker)"
        yield from (f"FAULT {each}" for each in self.faults)


def _listed(statuses: dict[int, int]) -> str:
    return ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items()))


def campaign(installation: Installation, seed: int, size: Size) -> Report:
    now = datetime.now(UTC)
    keys = installation.folder / "keys.toml"
    keys.write_text(KEY_FILE, encoding="utf-8")
    door, url = installation.start_ingest(INGEST__KEYS_FILE=str(keys), INGEST__MAX_BODY_BYTES=str(BODY_LIMIT))
    worker = installation.start_worker(WORKER__BREAKER_RUN="0", WORKER__BREAKER_SHARE="0")
    wait_until_ready(door, worker)
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 0

    stream = requests(seed, now)
    warm = send(host, port, islice(stream, WARM_UP), connections=CONNECTIONS, seconds=size.seconds / 4)
    door_before = rss(door)
    answers = send(host, port, islice(stream, size.bodies), connections=CONNECTIONS, seconds=size.seconds)
    door_after = rss(door)
    accepted = installation.wait_until_counted(COUNTED_WITHIN_S)
    faults = [*warm.faults, *answers.faults]
    taken = sum(each.statuses[200] + each.wild[200] for each in (warm, answers))
    if accepted.dead_lettered or accepted.records_read < taken:
        faults.append(f"of {taken} records that the door took, {accepted} came of them")

    mutated = records(seed, now)
    half = size.records // 2
    expected = publish(installation, islice(mutated, half))
    installation.wait_until_counted(COUNTED_WITHIN_S)
    worker_before = rss(worker)  # what the worker holds for its batches has settled by then
    expected += publish(installation, islice(mutated, size.records - half))
    hostile = installation.wait_until_counted(COUNTED_WITHIN_S).since(accepted)
    if hostile.dead_lettered != expected:
        faults.append(f"{expected} records can never be counted, dead letters are {hostile.dead_lettered}")
    assert_nothing_is_lost(installation)
    grown = door_after - door_before, rss(worker) - worker_before
    faults += [
        f"the {name} grew by {grew >> 20} MiB"
        for name, grew in zip(("door", "worker"), grown, strict=True)
        if grew > GROWTH
    ]
    return Report(answers, accepted, hostile, *grown, tuple(faults + list(in_logs(installation))))


def publish(installation: Installation, values: Iterator[bytes | None]) -> int:
    """On all partitions; how many of them can never be counted."""
    producer = Producer({"bootstrap.servers": installation.servers.bootstrap_servers, "linger.ms": 5})
    rejected = 0
    while chunk := [*islice(values, AT_A_TIME)]:
        for value in chunk:
            producer.produce(installation.topic, value)
            rejected += value is not None and not is_counted(value)
        assert producer.flush(60) == 0
    return rejected


def rss(process: Process) -> int:
    """Fails if it has ended: nothing that a client or a record does may do that."""
    assert process.poll() is None, f"{process.name} ended with {process.poll()}:\n{process.tail()}"
    return int(psutil.Process(process.pid).memory_info().rss)


def in_logs(installation: Installation) -> Iterator[str]:
    """What no log may hold: anything of a client, an error, a traceback."""
    for log in sorted(installation.folder.glob("*.log")):
        text = log.read_text(encoding="utf-8", errors="replace").lower()
        for word in (MARK, '"level": "error"', "traceback"):
            if word in text:
                at = text.index(word)
                yield f"{log.name} holds {word}: ...{text[max(0, at - 200) : at + 200]}..."
