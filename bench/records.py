"""Calls as the door encodes them, made fast enough for millions: what differs from call to call is written by hand
before parts that `encode` wrote.
"""

import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Final

from confluent_kafka import Producer

from processor.calls import parse_call_end
from processor.codec.framing import HEADER_V1
from processor.codec.rows import encode
from processor.kafka.promises import producer_properties
from tests.avro_bytes import long, text
from tests.factories import uuid7

TAILS: Final = 256
RECENT: Final = 10_000  # a repeat is one of so many calls before it
PER_S: Final = 1000  # so many calls ended in each second of the log's past
LASTED_S: Final = 10.0  # between the time in a call's id, when it began, and its end: exponential, this in the mean
SCATTERED_MS: Final = 3_600_000
HORIZON_DAYS: Final = 35
LINGER_MS: Final = 20
MAX_BYTES: Final = 8 * 2**20
FLUSH_S: Final = 60
QUEUE: Final = 200_000
CHUNK: Final = 100


@dataclass(frozen=True, slots=True)
class Load:
    """`size`: bytes of a value, filled up by `output`, or more where the models need it. `repeats`, `hot`: shares of
    the records that repeat a call, and of the calls that belong to one project. The calls end one after the other,
    PER_S in a second, the last one now; `scattered`: at any time of the last hour."""

    events: int
    size: int = 150
    projects: int = 1000
    repeats: float = 0.01
    models: int = 1
    hot: float = 0.0
    scattered: bool = False

    def records(self, seed: int = 1) -> Iterator[tuple[bytes, bytes, bool]]:
        """Key, value, and whether the call is new."""
        r = Random(seed)
        now_ms = time.time_ns() // 1_000_000
        tails = [self._tail(r, now_ms) for _ in range(TAILS)]
        recent: deque[tuple[bytes, bytes]] = deque(maxlen=RECENT)
        for number in range(self.events):
            if recent and r.random() < self.repeats:
                yield (*recent[r.randrange(len(recent))], False)
                continue
            project = 0 if r.random() < self.hot else r.randrange(self.projects)
            age_ms = r.randrange(SCATTERED_MS) if self.scattered else (self.events - number) * 1000 // PER_S
            ended_ms = now_ms - age_ms
            began_ms = ended_ms - int(r.expovariate(1 / LASTED_S) * 1000)
            key = _project(project)
            head = _head(key.decode(), uuid7(r.getrandbits(59), began_ms), ended_ms * 1000)
            recent.append((key, head + tails[r.randrange(TAILS)]))
            yield (*recent[-1], True)

    def _tail(self, r: Random, now_ms: int) -> bytes:
        """What follows `ended_at`."""
        usage = {f"model-{n}": {"prompt_tokens": r.randrange(5000), "completion_tokens": 7} for n in range(self.models)}
        end = {
            "project_id": _project(0).decode(), "id": uuid7(0, now_ms), "ended_at": now_ms, "output": "",
            "summary": {"usage": usage, "status_counts": {"success": self.models}},
        }  # fmt: skip
        end["output"] = "x" * (self.size - len(_encoded(end)))
        value = _encoded(end)
        head = _head(str(end["project_id"]), str(end["id"]), now_ms * 1000)
        assert value.startswith(head), "the schema begins otherwise now: write its first fields by hand as it says"
        return value[len(head) :]


def _project(number: int) -> bytes:
    return b"acme/project-%06d" % number


def _head(project_id: str, call_id: str, ended_at_us: int) -> bytes:
    return HEADER_V1 + text(project_id) + text(call_id) + long(ended_at_us)


def _encoded(end: dict[str, object]) -> bytes:
    body = json.dumps({"end": end}).encode()
    return encode(parse_call_end(body, now=datetime.now(UTC), horizon_days=HORIZON_DAYS))


def publish(brokers: str, topic: str, load: Load, *, per_s: float = 0, seed: int = 1) -> int:
    """All of it, acknowledged; how many calls are new. `per_s`: no faster than that."""
    properties = producer_properties(
        {"bootstrap.servers": brokers}, delivery_timeout_s=FLUSH_S, max_record_bytes=MAX_BYTES, linger_ms=LINGER_MS
    )
    producer = Producer({**properties, "queue.buffering.max.messages": QUEUE})
    calls, began_s = 0, time.monotonic()
    for number, (key, value, is_new) in enumerate(load.records(seed)):
        calls += is_new
        producer.produce(topic, value, key)
        if number % CHUNK == 0:
            ahead_s = began_s + number / per_s - time.monotonic() if per_s else 0.0
            producer.poll(max(0.0, ahead_s))
            while len(producer) > QUEUE - CHUNK:
                producer.poll(0.01)
    assert producer.flush(FLUSH_S) == 0, "not all records were acknowledged"
    return calls
