"""Timeouts hold only together: each of these is longer than what it has to outlast. The runbook has them all."""

import re
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, cast

from processor.cli import ingest, worker
from processor.config import Ingest, Worker
from processor.ingest.body import CLOSING_READ_TIMEOUT_S, READ_TIMEOUT_S
from processor.ingest.outage import PROBE_EVERY_S
from processor.ingest.publisher import PROBE_WAIT_S
from processor.ingest.server import HEAD_TIMEOUT_S, KEEP_ALIVE_S
from processor.kafka.consumer import HEARTBEAT_MS, consumer_properties
from processor.kafka.log_watch import ASK_EVERY_S
from processor.kafka.promises import producer_properties
from processor.kafka.properties import LEAST_POLL_INTERVAL_MS
from processor.sinks.postgres.connection import (
    CONNECT_TIMEOUT_S,
    IDLE_IN_TRANSACTION_TIMEOUT_MS,
    LOCK_TIMEOUT_MS,
    TRANSACTION_TIMEOUT_MS,
)
from processor.worker.assignment import NO_LEADER_WAIT_S
from processor.worker.loop import BACK_OFF_MAX_S, COMPARE_EVERY_S, DEAD_LETTER_TIMEOUT_S, SINK_DEADLINE_S
from tests.documents import ROOT

SDK_GIVES_UP_S = 30
INGRESS_GIVES_UP_S = 15
INGEST_GRACE_S = 30  # terminationGracePeriodSeconds
WORKER_GRACE_S = 45
LONGEST_SHUTDOWN_WAIT_S = 5  # of those who keep their grace at that

DOOR = Ingest()
PRODUCER = producer_properties({}, delivery_timeout_s=DOOR.delivery_timeout_s, max_record_bytes=DOOR.max_record_bytes)
CONSUMER = consumer_properties({}, "group", Worker().session_timeout_s)
# As the runbook calls them, in its order.
TABLE: Final[dict[str, float]] = {
    "a request's body arrives": READ_TIMEOUT_S,
    "its rest, once the door closes": CLOSING_READ_TIMEOUT_S,
    "a request's head arrives": HEAD_TIMEOUT_S,
    "a connection rests": KEEP_ALIVE_S,
    "the producer gives a record up": PRODUCER["message.timeout.ms"] / 1000,
    "a request waits for its acknowledgement": DOOR.ack_timeout_s,
    "an ingress waits for the door": INGRESS_GIVES_UP_S,
    "the SDK waits": SDK_GIVES_UP_S,
    "a probe goes through while the brokers are away": PROBE_EVERY_S,
    "the client of a probe waits": PROBE_WAIT_S,
    "a broker answers": PRODUCER["socket.timeout.ms"] / 1000,
    "the longest pause between two connects": PRODUCER["reconnect.backoff.max.ms"] / 1000,
    "not ready before the door closes": DOOR.shutdown_wait_s,
    "what is in flight is answered, once the door is closed": DOOR.ack_timeout_s + CLOSING_READ_TIMEOUT_S,
    "the last records are flushed": DOOR.ack_timeout_s,
    "Kubernetes waits for ingest to end": INGEST_GRACE_S,
    "the event loop of ingest turns": ingest.STUCK_AFTER_S,
    "a heartbeat": HEARTBEAT_MS / 1000,
    "a lock is waited for": LOCK_TIMEOUT_MS / 1000,
    "PostgreSQL is connected to": CONNECT_TIMEOUT_S,
    "a transaction rests": IDLE_IN_TRANSACTION_TIMEOUT_MS / 1000,
    "a silent worker keeps its partitions": CONSUMER["session.timeout.ms"] / 1000,
    "dead letters are acknowledged": DEAD_LETTER_TIMEOUT_S,
    "a transaction lasts": TRANSACTION_TIMEOUT_MS / 1000,
    "a batch is written": SINK_DEADLINE_S,
    "Kubernetes waits for a worker to end": WORKER_GRACE_S,
    "the loop of a worker turns": worker.STUCK_AFTER_S,
    "the client is polled": CONSUMER["max.poll.interval.ms"] / 1000,
    "the longest pause between two tries": BACK_OFF_MAX_S,
    "checkpoints are compared": COMPARE_EVERY_S,
    "the topic's id is asked for": ASK_EVERY_S,
    "partitions without a leader are asked for": NO_LEADER_WAIT_S,
    "added partitions are seen": CONSUMER["topic.metadata.refresh.interval.ms"] / 1000,
}
ELSEWHERE: Final = {"an ingress waits for the door", "the SDK waits"}  # nothing of ours ends them


def ascending(*seconds: float) -> bool:
    return all(shorter < longer for shorter, longer in pairwise(seconds))


def test_a_frozen_owner_has_lost_its_locks_when_its_partitions_move_on() -> None:
    session_s = Worker().session_timeout_s
    assert ascending(HEARTBEAT_MS / 1000, LOCK_TIMEOUT_MS / 1000, IDLE_IN_TRANSACTION_TIMEOUT_MS / 1000, session_s)
    least = next(rule.gt for rule in Worker.model_fields["session_timeout_s"].metadata if hasattr(rule, "gt"))
    assert least >= IDLE_IN_TRANSACTION_TIMEOUT_MS / 1000
    assert TRANSACTION_TIMEOUT_MS / 1000 <= SINK_DEADLINE_S


def test_a_worker_is_not_taken_for_stuck_while_a_turn_lasts_as_long_as_it_may() -> None:
    turn_s = SINK_DEADLINE_S + DEAD_LETTER_TIMEOUT_S + CONNECT_TIMEOUT_S
    assert ascending(turn_s, worker.STUCK_AFTER_S)
    assert 3 * worker.STUCK_AFTER_S <= LEAST_POLL_INTERVAL_MS / 1000
    most = next(rule.le for rule in Worker.model_fields["session_timeout_s"].metadata if hasattr(rule, "le"))
    assert most * 1000 <= LEAST_POLL_INTERVAL_MS


def test_a_record_is_given_up_before_its_request_and_a_request_before_its_client() -> None:
    door = Ingest()
    assert ascending(door.delivery_timeout_s, door.ack_timeout_s, SDK_GIVES_UP_S)
    longest = Ingest(ack_timeout_s=28)
    assert ascending(longest.delivery_timeout_s, longest.ack_timeout_s, SDK_GIVES_UP_S)
    assert ascending(longest.ack_timeout_s, ingest.STUCK_AFTER_S)
    assert ascending(door.ack_timeout_s, INGRESS_GIVES_UP_S, SDK_GIVES_UP_S)


def test_who_is_told_to_stop_has_stopped_before_it_is_killed() -> None:
    answered_s = DOOR.ack_timeout_s + CLOSING_READ_TIMEOUT_S
    assert LONGEST_SHUTDOWN_WAIT_S + answered_s + DOOR.ack_timeout_s < INGEST_GRACE_S
    last_try_s = SINK_DEADLINE_S + CONNECT_TIMEOUT_S + DEAD_LETTER_TIMEOUT_S
    assert last_try_s + Worker().session_timeout_s < WORKER_GRACE_S


def test_the_runbook_has_every_timeout_as_it_is_with_the_test_of_its_border() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| [^|]+ \| [\d.]+ \|", line)]
    shown = {cells[0]: (float(cells[1]), cells[-1]) for cells in rows if len(cells) >= 4 or cells[0] in ELSEWHERE}
    assert {what: seconds for what, (seconds, _) in shown.items()} == TABLE
    untested = {what for what, (_, tests) in shown.items() if not re.search(r"`tests/[\w/]+\.py`", tests)}
    assert untested == ELSEWHERE


@dataclass(frozen=True, slots=True)
class Turning:
    """A worker whose last turn began so many seconds ago; a door, likewise."""

    ago_s: float

    @property
    def last_turn_s(self) -> float:
        return time.monotonic() - self.ago_s

    def seconds_since_tick(self) -> float:
        return self.ago_s


@dataclass(frozen=True, slots=True)
class Reporting:
    is_alive: bool


def test_liveness_speaks_when_a_loop_has_not_turned_for_its_time_and_not_before() -> None:
    for ago_s, is_stuck in ((worker.STUCK_AFTER_S - 1, False), (worker.STUCK_AFTER_S + 1, True)):
        assert (worker._stuck(cast("Any", [Turning(ago_s)])) is not None) == is_stuck
    for ago_s, reports, is_stuck in (
        (ingest.STUCK_AFTER_S - 1, True, False),
        (ingest.STUCK_AFTER_S + 1, True, True),
        (0, False, True),
    ):
        told = ingest._stuck(cast("Any", Turning(ago_s)), cast("Any", Reporting(reports)))
        assert (told is not None) == is_stuck
