"""The door on a broker that suffers, and out of what it needs itself: every request is answered, a 200 is a record."""

import asyncio
import json
import socket
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import Final
from urllib.parse import urlsplit

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from processor.config import Ingest
from processor.deadline import Deadline
from processor.embedded.kafka import EmbeddedKafka
from processor.embedded.ports import LOOPBACK, free_port
from processor.ingest.body import CLOSING_READ_TIMEOUT_S
from processor.ingest.publisher import PROBE_WAIT_S
from processor.ingest.room import EXCESS, LEAST_FILES, OTHER_FILES
from processor.kafka.topics import MIB, Topics, TopicSpec
from tests.fuzz.campaign import rss
from tests.group import metric
from tests.posting import Answer, Client, Load, post, published, wait_until_it_answers
from tests.stack import (
    Installation,
    Process,
    Servers,
    assert_in_time,
    frozen,
    http_status,
    wait_until,
    wait_until_ready,
)

pytestmark = pytest.mark.stack

PARTITIONS = 4
ACK_TIMEOUT_S: Final = 2
QUICK = {"INGEST__ACK_TIMEOUT_S": str(ACK_TIMEOUT_S)}  # a record is given up after a second
AT_ONCE_S = 0.25
LONG_S: Final = 25.0  # longer than socket.timeout.ms and than many a client's longest wait between two connects
BACK_S: Final = 5.0  # reconnect.backoff.max.ms, a probe, and a busy machine


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(tmp_path_factory.mktemp("suffering")) as kafka:
        yield kafka


@pytest.fixture
def suffering(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Installation]:
    if kafka.pid is None:
        kafka.start()
    installation = Installation(Servers(kafka.bootstrap_servers, "postgresql://unused"), tmp_path)
    make_topic(installation)
    yield installation
    installation.close()


def make_topic(installation: Installation) -> None:
    topics = Topics({"bootstrap.servers": installation.servers.bootstrap_servers})
    topics.create(TopicSpec(installation.topic, PARTITIONS, 1, retention_days=7, max_message_bytes=8 * MIB))


# The broker


def test_broker_killed_during_posting(kafka: EmbeddedKafka, suffering: Installation) -> None:
    process, url = suffering.start_ingest()
    wait_until_ready(process)
    with Load(url) as load:
        load.wait_for(200, 100)
        kafka.kill()
        load.wait_for(503, 100)
        assert process.is_ready(), "were it not, clients would lose the 503 that tells them to come again"
        kafka.start()
        load.wait_for(200, 100)
    refused = [answer for answer in load.answers if answer.status == 503]
    assert {answer.status for answer in load.answers} == {200, 503}
    assert all(1 <= int(answer.retry_after or 0) <= 60 for answer in refused)
    assert_in_time(quantiles([answer.seconds for answer in refused], n=5)[3], AT_ONCE_S)
    assert load.ids(200) <= set(published(suffering)), "an acknowledged call is not there"
    assert process.poll() is None


def test_broker_frozen(kafka: EmbeddedKafka, suffering: Installation) -> None:
    process, url = suffering.start_ingest(**QUICK)
    wait_until_ready(process)
    wait_until_it_answers(url, 200)  # the first record of a producer may take longer than the short wait of this test
    answers = [post(url)]
    with frozen(kafka):
        first = post(url)  # nobody can know yet
        assert (first.status, first.seconds < 3) == (503, True)
        burst = [post(url) for _ in range(20)]
        assert {answer.status for answer in burst} == {503}
        assert_in_time(quantiles([answer.seconds for answer in burst], n=4)[2], AT_ONCE_S)
    wait_until_it_answers(url, 200)
    answers.append(post(url))
    assert [answer.status for answer in answers] == [200, 200]
    assert {answer.call_id for answer in answers} <= set(published(suffering))


@pytest.mark.long
def test_a_broker_that_is_frozen_and_then_dead_for_long_costs_nobody_more_than_the_timeouts(
    kafka: EmbeddedKafka, suffering: Installation
) -> None:
    """At their defaults and under load: the first answer comes when the record is given up, all others at once, and the
    door is back within moments of the broker."""
    ack = Ingest()
    door, url = suffering.start_ingest()
    wait_until_ready(door)
    with Load(url) as load:
        load.wait_for(200, 50)
        before = len(load.answers)
        with frozen(kafka):
            began_s = time.monotonic()
            wait_until(lambda: time.monotonic() - began_s > LONG_S, within_s=LONG_S + 5, what="it was long")
        load.wait_for(200, 50, within_s=BACK_S)
        refused = [answer for answer in load.answers[before:] if answer.status == 503]
        assert sum(answer.seconds >= PROBE_WAIT_S + AT_ONCE_S for answer in refused) <= len(load.threads)
        slowest_s = max(answer.seconds for answer in refused)
        assert slowest_s >= ack.delivery_timeout_s - 0.1
        assert_in_time(slowest_s, ack.ack_timeout_s + 1)
        kafka.kill()
        began_s = time.monotonic()
        wait_until(lambda: time.monotonic() - began_s > LONG_S, within_s=LONG_S + 5, what="it was long")
        kafka.start()
        load.wait_for(200, 50, within_s=BACK_S)
    assert {answer.status for answer in load.answers} == {200, 503}
    assert_in_time(max(answer.seconds for answer in load.answers), ack.ack_timeout_s + 1)
    assert load.ids(200) <= set(published(suffering))


def test_topic_deleted_and_made_again(suffering: Installation) -> None:
    process, url = suffering.start_ingest(**QUICK)
    wait_until_ready(process)
    wait_until_it_answers(url, 200)
    admin = AdminClient({"bootstrap.servers": suffering.servers.bootstrap_servers})
    admin.delete_topics([suffering.topic])[suffering.topic].result(10)
    wait_until_it_answers(url, 503)
    assert {post(url).status for _ in range(5)} == {503}
    assert suffering.topic not in admin.list_topics(timeout=5).topics, "the door has made the topic, with any settings"
    make_topic(suffering)
    wait_until_it_answers(url, 200)


def test_broker_not_there_at_the_start(kafka: EmbeddedKafka, suffering: Installation) -> None:
    kafka.stop()
    process, url = suffering.start_ingest()
    wait_until_it_answers(url, 503)
    refused = [post(url) for _ in range(10)]
    assert {answer.status for answer in refused} == {503}
    assert (http_status(process.admin, "/readyz"), http_status(process.admin, "/livez")) == (503, 200)
    kafka.start()
    wait_until_ready(process)
    wait_until_it_answers(url, 200)


# The queue of records that wait for the broker

QUEUE_RECORDS: Final = 40
BEYOND_QUEUE: Final = 20
QUEUE_BYTES: Final = 8 * MIB
LARGE: Final = 100  # bodies of a MiB


def start_with_queue(installation: Installation, limit: str) -> tuple[Process, str]:
    """A door whose producer holds no more than that; it has taken a record."""
    file = installation.folder / "kafka.properties"
    file.write_text(limit)
    door, url = installation.start_ingest(KAFKA__PROPERTIES_FILE=str(file))
    wait_until_ready(door)
    wait_until_it_answers(url, 200)
    return door, url


def test_records_beyond_the_queue_are_503_at_once_and_are_taken_again_when_the_broker_answers(
    kafka: EmbeddedKafka, suffering: Installation
) -> None:
    door, url = start_with_queue(suffering, f"queue.buffering.max.messages={QUEUE_RECORDS}\n")
    with ThreadPoolExecutor(QUEUE_RECORDS + BEYOND_QUEUE) as clients:
        with frozen(kafka):
            posted = [clients.submit(post, url) for _ in range(QUEUE_RECORDS + BEYOND_QUEUE)]
            wait_until(
                lambda: sum(one.done() for one in posted) == BEYOND_QUEUE, within_s=5, what="the others are answered"
            )
            refused = [one.result() for one in posted if one.done()]
            assert metric(door, "broker_away") == 0, "it is the queue that refuses, nothing else is known yet"
        answers = [one.result() for one in posted]
    assert {(answer.status, answer.retry_after) for answer in refused} == {(503, "1")}
    assert {answer.status for answer in answers} <= {200, 503}
    wait_until_it_answers(url, 200)
    answers += [post(url) for _ in range(5)]
    assert {answer.status for answer in answers[-5:]} == {200}
    assert {answer.call_id for answer in answers if answer.status == 200} <= set(published(suffering))


def test_a_queue_that_is_full_of_bytes_keeps_the_memory_bounded(kafka: EmbeddedKafka, suffering: Installation) -> None:
    door, url = start_with_queue(suffering, f"queue.buffering.max.kbytes={QUEUE_BYTES // 1024}\n")
    grown, refused, statuses = post_large(kafka, door, url)
    assert refused > LARGE / 2
    assert statuses.keys() <= {200, 503}
    assert grown < QUEUE_BYTES + 48 * MIB, f"{grown / MIB:.0f} MiB for {LARGE} MiB of bodies"
    wait_until_it_answers(url, 200)


def test_what_waits_for_the_broker_is_kept_once(kafka: EmbeddedKafka, suffering: Installation) -> None:
    """So that the budget of bytes in flight is one of memory."""
    door, url = suffering.start_ingest(INGEST__ACK_TIMEOUT_S="28")  # a busy machine is not to give any up
    wait_until_ready(door)
    wait_until_it_answers(url, 200)
    grown, refused, statuses = post_large(kafka, door, url)
    assert (refused, statuses) == (0, {200: LARGE})
    assert LARGE * MIB < grown < 1.5 * LARGE * MIB, f"{grown / MIB:.0f} MiB for {LARGE} MiB of bodies"


TOGETHER: Final = 10  # metrics are made twice a second, and all must be sent before the first is given up


def post_large(kafka: EmbeddedKafka, door: Process, url: str) -> tuple[int, int, Counter[int | None]]:
    """While the broker is frozen: by how many bytes the door grew, and how many were refused; then all statuses."""
    answers: list[Future[Answer]] = []

    def are_held_or_answered() -> bool:
        waiting = sum(not answer.done() for answer in answers)
        return metric(door, "in_flight_bytes") >= waiting * MIB

    with ThreadPoolExecutor(LARGE) as clients:
        with frozen(kafka):
            before = rss(door)
            for _ in range(LARGE // TOGETHER):  # so it is the queue that holds most of them, and no half of a body
                answers += [clients.submit(post, url, output="x" * MIB) for _ in range(TOGETHER)]
                wait_until(are_held_or_answered, within_s=10, what="the records are in the queue, or refused")
            grown, refused = rss(door) - before, sum(answer.done() for answer in answers)
        return grown, refused, Counter(answer.result().status for answer in answers)


# SIGTERM with requests in flight

IN_FLIGHT: Final = 500
LATE_S: Final = 3.0  # a busy machine


@pytest.mark.parametrize(
    ("ack_timeout_s", "comes_back"),
    [(6, True), (ACK_TIMEOUT_S, False), pytest.param(9, False, marks=pytest.mark.long)],
    ids=["the broker comes back", "it does not", "it does not, at the default timeouts"],
)
def test_sigterm_with_500_requests_in_flight_on_a_frozen_broker_answers_each_of_them(
    kafka: EmbeddedKafka, suffering: Installation, *, ack_timeout_s: int, comes_back: bool
) -> None:
    door, url = suffering.start_ingest(INGEST__ACK_TIMEOUT_S=str(ack_timeout_s))
    wait_until_ready(door)
    wait_until_it_answers(url, 200)
    grace_s = ack_timeout_s + CLOSING_READ_TIMEOUT_S + ack_timeout_s  # answers, then a flush; and a busy machine
    with ThreadPoolExecutor(1) as clients:
        with frozen(kafka):
            posted = clients.submit(asyncio.run, post_together(url, IN_FLIGHT))
            wait_until(lambda: metric(door, "in_flight_requests") == IN_FLIGHT, within_s=5, what="all are in flight")
            door.ask_to_stop()
            deadline = Deadline.after(grace_s + LATE_S)
            if comes_back:
                wait_until(lambda: not accepts(url), within_s=5, what="nothing new is accepted")
            else:
                wait_until(lambda: door.poll() is not None, within_s=deadline.remaining_s(), what="the process ends")
        answers = posted.result()
    wait_until(lambda: door.poll() is not None, within_s=deadline.remaining_s(), what="the process ends")
    assert door.poll() == 0
    assert Counter(answers.values()) == {200 if comes_back else 503: IN_FLIGHT}
    acknowledged = {call_id for call_id, status in answers.items() if status == 200}
    assert acknowledged <= set(published(suffering))


async def post_together(url: str, count: int) -> dict[str, int]:
    """By call id the status; 0 if the connection broke."""
    target = urlsplit(url)

    async def one(call_id: str) -> int:
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        end = {"project_id": "acme/chat", "id": call_id, "ended_at": datetime.now(UTC).isoformat(), "summary": {}}
        body = json.dumps({"end": end})
        lines = ("POST /call/end HTTP/1.1", "host: x", "content-type: application/json", f"content-length: {len(body)}")
        writer.write("\r\n".join((*lines, "", body)).encode())
        try:
            return int((await reader.read(12))[9:12] or 0)
        except OSError:
            return 0
        finally:
            writer.close()

    ids = [uuid.uuid4().hex for _ in range(count)]
    return dict(zip(ids, await asyncio.gather(*map(one, ids)), strict=True))


def accepts(url: str) -> bool:
    target = urlsplit(url)
    try:
        socket.create_connection((target.hostname, target.port or 0), timeout=1).close()
    except OSError:
        return False
    return True


# Descriptors

ROOM: Final = LEAST_FILES - OTHER_FILES - EXCESS
BEYOND: Final = ROOM + 3 * EXCESS  # connections: more than there can be told that there is no room


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux changes the limits of another process")
def test_when_the_last_descriptor_is_gone_all_the_same_the_door_serves_on_and_idles_until_some_are_free(
    suffering: Installation,
) -> None:
    """Whoever took it: here the limit falls to what is open now."""
    door, url = suffering.start_ingest()
    wait_until_ready(door)
    wait_until_it_answers(url, 200)
    process = psutil.Process(door.pid)
    with closing(Client(url)) as kept:
        assert kept.post().status == 200
        limit = process.rlimit(psutil.RLIMIT_NOFILE)
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds(), limit[1]))
        host, port = door.admin.split(":")
        used_s = sum(process.cpu_times()[:2])
        with closing(Client(url)), socket.create_connection((host, int(port))):  # both wait to be taken
            over = Deadline.after(2)
            wait_until(
                lambda: kept.post().status == 200 and over.passed(), within_s=10, what="some time has gone by, served"
            )
        assert sum(process.cpu_times()[:2]) - used_s < 0.3  # a loop that tries all the time would use what it gets
        process.rlimit(psutil.RLIMIT_NOFILE, limit)
    wait_until(lambda: http_status(door.admin, "/livez") == 200, within_s=5, what="who asks is answered again")
    wait_until_it_answers(url, 200)
    assert door.poll() is None


class FewFiles(Process):
    """A door that may open so few files as it can serve with."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        super().__init__([], folder=folder, name="few-files", environment=environment)
        limited = f'ulimit -n {LEAST_FILES}; exec "$@"'
        self._command = ["/bin/sh", "-c", limited, "sh", sys.executable, "-m", "processor", "ingest"]


def test_without_a_descriptor_left_the_door_serves_those_that_are_there_lives_and_idles(
    suffering: Installation,
) -> None:
    listen = f"{LOOPBACK}:{free_port()}"
    environment = suffering.environment(INGEST__LISTEN=listen, ADMIN__LISTEN=f"{LOOPBACK}:{free_port()}")
    door, url = FewFiles(suffering.folder, environment), f"http://{listen}"
    door.launch()
    suffering.processes.append(door)
    wait_until_ready(door)
    wait_until_it_answers(url, 200)
    process = psutil.Process(door.pid)
    before = process.num_fds()
    with ExitStack() as connections:
        clients = [connections.enter_context(closing(Client(url))) for _ in range(BEYOND)]
        refused = [one.post() for one in clients[ROOM + 10 : ROOM + 20]]
        assert {(answer.status, answer.retry_after) for answer in refused} == {(503, "1")}
        wait_until(clients[-1].is_hung_up_on, within_s=5, what="the last ones are hung up on")
        assert {one.post().status for one in clients[: ROOM - 10]} == {200}
        assert process.num_fds() < LEAST_FILES - EXCESS
        used_s, began_s = sum(process.cpu_times()[:2]), time.monotonic()
        for _ in range(20):
            assert (http_status(door.admin, "/livez"), http_status(door.admin, "/readyz")) == (200, 200)
            assert clients[0].post().status == 200
        wait_until(lambda: time.monotonic() - began_s > 2, within_s=10, what="some time has gone by")
        assert sum(process.cpu_times()[:2]) - used_s < 0.5 * (time.monotonic() - began_s)
    wait_until(lambda: process.num_fds() <= before + 3, within_s=10, what="descriptors are free again")
    assert [post(url).status for _ in range(5)] == [200] * 5
    assert "no room for more connections" in door.log.read_text()
