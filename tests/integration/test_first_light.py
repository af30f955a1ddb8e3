"""From the door to the totals, on real parts: what was answered 200 is counted, once, and nothing else is."""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from processor import dead_letters
from processor.calls import parse_call_end
from processor.codec.rows import encode
from processor.sample.foreign import foreign_records
from processor.sample.oracle import Expected, expect
from processor.sample.posts import sample
from processor.sample.sender import Answer, send
from processor.sample.stored import Counters
from tests.laws import assert_nothing_is_lost, assert_totals_equal
from tests.stack import Installation, Servers, installed, wait_until, wait_until_ready

pytestmark = pytest.mark.stack
HORIZON_DAYS = 35


def framed() -> bytes:
    """A valid record."""
    now = datetime.now(UTC)
    (post,) = sample(0, now=now, calls=1, bad=False)[:1]
    return encode(parse_call_end(post.body, now=now, horizon_days=HORIZON_DAYS))


def expected_of(answers: Iterable[Answer]) -> Expected:
    return expect(answer.post.parsed() for answer in answers if answer.status == 200)


def test_stored_totals_equal_what_was_sent_and_foreign_records_become_dead_letters(installation: Installation) -> None:
    foreign = foreign_records(framed())
    posts = sample(11, now=datetime.now(UTC), calls=2000)
    ingest, url = installation.start_ingest()
    workers = [installation.start_worker() for _ in range(2)]
    wait_until_ready(ingest, *workers)
    half = len(posts) // 2
    answers = send(url, posts[:half])
    installation.publish([record.value for record in foreign])
    answers += send(url, posts[half:])
    counters = installation.wait_until_counted()

    assert not [(answer.status, answer.post) for answer in answers if answer.status != answer.post.expect]
    expected = expected_of(answers)
    assert_totals_equal(installation, expected)
    assert_nothing_is_lost(installation)
    reasons = Counter(record.reason for record in foreign)
    assert counters == Counters(
        next_offset=counters.records_read,
        records_read=sum(answer.status == 200 for answer in answers) + len(foreign),
        counted=expected.calls,
        duplicates=expected.duplicates,
        conflicts=expected.conflicts,
        dead_lettered=len(foreign) - reasons[None],
        skipped=reasons[None],
    )
    letters = [
        (letter.value(), dict(letter.headers() or ())[dead_letters.REASON])
        for letter in installation.records(installation.dead_letter_topic)
    ]
    rejected = [(record.value, record.reason.encode()) for record in foreign if record.reason is not None]
    assert sorted(letters) == sorted(rejected)


SEEDS = range(5)


@pytest.fixture(scope="module")
def runs(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Future[None]]]:
    """Two at a time: for half of its time a run waits until the group has given up a dead member."""
    with ThreadPoolExecutor(2) as pool:
        yield {seed: pool.submit(run_with_kills, servers, tmp_path_factory.mktemp("run"), seed) for seed in SEEDS}


@pytest.mark.parametrize("seed", SEEDS)
def test_totals_are_exact_although_processes_are_killed(runs: dict[int, Future[None]], seed: int) -> None:
    runs[seed].result()


def run_with_kills(servers: Servers, folder: Path, seed: int) -> None:
    """Calls are sent all the while; four workers and the door die at moments drawn by `seed`, and are started again."""
    r = Random(seed)
    finished = threading.Event()
    with installed(servers, folder) as installation, ThreadPoolExecutor(1) as pool:
        ingest, url = installation.start_ingest()
        workers = [installation.start_worker() for _ in range(2)]
        wait_until_ready(ingest, *workers)
        sending = pool.submit(send_until, finished, url, seed)
        try:
            for victim in r.sample(["worker"] * 4 + ["ingest"], 5):
                wait_until_moment(time.monotonic() + r.uniform(0.3, 1.7))
                process = ingest if victim == "ingest" else r.choice(workers)
                process.kill()
                process.launch()
        finally:
            finished.set()
        answers = sending.result()
        installation.wait_until_counted()
        assert not [(answer.status, answer.post) for answer in answers if answer.status != answer.post.expect]
        assert_totals_equal(installation, expected_of(answers))
        assert_nothing_is_lost(installation)


def send_until(finished: threading.Event, url: str, seed: int) -> list[Answer]:
    """One sample after the other. Patient: a call that is given up may be stored or not, and then nobody can judge."""
    answers: list[Answer] = []
    while not finished.is_set():
        posts = sample(1000 * seed + len(answers), now=datetime.now(UTC), calls=300, bad=False)
        answers += send(url, posts, attempts=30)
    return answers


def wait_until_moment(at_s: float) -> None:
    wait_until(lambda: time.monotonic() >= at_s, within_s=10, what="the moment has come")
