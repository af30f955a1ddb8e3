"""Many records verified in bounded memory: what `verify` holds follows the rows of the totals, not the records."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random

import psutil
import pytest

from processor.calls import parse_call_end
from processor.codec.rows import encode
from processor.errors import ExitCode
from processor.sample.posts import sample
from tests.factories import uuid7
from tests.parallel import tell
from tests.produce import HORIZON_DAYS, producer_of
from tests.stack import Installation, wait_until

pytestmark = pytest.mark.stack

MIB = 2**20
MOST_BYTES = 400 * MIB
TEMPLATES = 300


def values(calls: int) -> Iterator[bytes]:
    """So many records, one in a hundred a repeat; the calls of the sample, over and over, under other ids."""
    now = datetime.now(UTC) - timedelta(minutes=5)
    now_ms = round(now.timestamp() * 1000)
    templates = []
    for post in sample(1, now=now, calls=TEMPLATES, bad=False):
        request = parse_call_end(post.body, now=now, horizon_days=HORIZON_DAYS)
        if len(request.end.id) == 36:
            templates.append((encode(request, keep_output=False), request.end.id.encode()))
    r = Random(2)
    for number in range(calls):
        value, call_id = templates[number % len(templates)]
        repeated = number - len(templates) * r.randrange(1, 50) if r.random() < 0.01 else number
        yield value.replace(call_id, uuid7(max(repeated, 0), now_ms).encode())


def fill(installation: Installation, calls: int) -> None:
    producer = producer_of(installation)
    stream = values(calls)
    number = 0
    while chunk := list(islice(stream, 10_000)):
        for value in chunk:
            producer.produce(installation.topic, value, key=str(number % 1000).encode())
            number += 1
        assert producer.flush(60) == 0


def verified(installation: Installation, within_s: float) -> tuple[int | None, int]:
    """Exit code, and the most memory that was seen."""
    process = installation.start("verify", "--json")
    assert process.pid is not None
    looked_at, most = psutil.Process(process.pid), 0

    def ended() -> bool:
        nonlocal most
        with suppress(psutil.NoSuchProcess):
            most = max(most, looked_at.memory_info().rss)
        return process.poll() is not None

    wait_until(ended, within_s=within_s, what="the log is verified")
    return process.poll(), most


def verify_many(request: pytest.FixtureRequest, installation: Installation, calls: int, within_s: float) -> None:
    fill(installation, calls)
    worker = installation.start_worker()
    installation.wait_until_counted(within_s)
    worker.stop()
    began_s = time.monotonic()
    code, most = verified(installation, within_s)
    found = json.loads(installation.processes[-1].log.read_text())
    assert (code, found["differences"], found["counters"]) == (ExitCode.OK, [], [])
    assert found["records"] == calls
    assert most < MOST_BYTES
    tell(request, f"{calls:,} records verified in {time.monotonic() - began_s:.0f} s and {most / MIB:.0f} MiB")


def test_two_hundred_thousand_records_are_verified_in_bounded_memory(
    request: pytest.FixtureRequest, installation: Installation
) -> None:
    verify_many(request, installation, 200_000, within_s=90)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_ten_million_records_are_verified_in_the_same_memory(
    request: pytest.FixtureRequest, installation: Installation
) -> None:
    verify_many(request, installation, 10_000_000, within_s=3000)
