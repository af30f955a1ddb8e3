"""A topic's name that stands for another log is noticed, without ever waiting for an answer."""

from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from processor.errors import ExitCode, Stop, Unavailable
from processor.kafka.log_watch import ASK_EVERY_S, LogWatch
from processor.kafka.topics import Topic

KNOWN = Topic("cluster", "id-1", partitions=4)


@dataclass(slots=True)
class Broker:
    """`now` is what it says; None: it does not answer. It answers late: by `answer`."""

    now: Topic | None = KNOWN
    missing: bool = False
    asked: list["Future[Any]"] = field(default_factory=list)

    def describe(self, name: str) -> Topic:
        if self.missing:
            raise Stop(ExitCode.DEPENDENCY, "there is no such topic")
        if self.now is None:
            raise Unavailable("no broker")
        return self.now

    def ask_id(self, name: str) -> "Future[Any]":
        self.asked.append(Future())
        return self.asked[-1]

    def answer(self) -> None:
        if self.now is None:
            self.asked[-1].set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
        else:
            self.asked[-1].set_result(SimpleNamespace(topic_id=self.now.topic_id))


@dataclass(slots=True)
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(slots=True)
class Bench:
    broker: Broker = field(default_factory=Broker)
    clock: Clock = field(default_factory=Clock)
    watch: LogWatch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = LogWatch(self.broker, "calls", KNOWN, self.clock)

    def look_later(self) -> None:
        """Until it has asked and looked at the answer."""
        self.clock.now_s += ASK_EVERY_S
        self.watch.look()
        self.broker.answer()
        self.watch.look()


def test_it_asks_every_five_seconds_and_not_before_the_last_answer_came() -> None:
    bench = Bench()
    bench.watch.look()
    assert len(bench.broker.asked) == 0
    for _ in range(3):
        bench.clock.now_s += ASK_EVERY_S
        bench.watch.look()
    assert len(bench.broker.asked) == 1
    bench.broker.answer()
    bench.watch.look()
    bench.look_later()
    assert len(bench.broker.asked) == 2


def test_a_topic_that_was_created_again_stops_the_worker() -> None:
    bench = Bench()
    bench.look_later()
    bench.broker.now = replace(KNOWN, topic_id="id-2")
    with pytest.raises(Stop, match=r"topic calls was deleted and created again .*id-2.*id-1") as stopped:
        bench.look_later()
    assert stopped.value.exit_code is ExitCode.PROTECT_NUMBERS


def test_another_cluster_behind_the_same_address_stops_the_worker() -> None:
    bench = Bench()
    bench.broker.now = Topic("cluster-2", "id-2", partitions=4)
    with pytest.raises(Stop, match=r"another cluster answers \(cluster-2, it was cluster\)"):
        bench.look_later()
    with pytest.raises(Stop, match="another cluster"):
        bench.watch.check()


def test_a_broker_that_does_not_answer_is_asked_again() -> None:
    bench = Bench()
    bench.broker.now = None
    bench.look_later()
    with pytest.raises(Unavailable):
        bench.watch.check()
    bench.broker.now = replace(KNOWN, topic_id="id-2")
    with pytest.raises(Stop, match="created again"):
        bench.look_later()


def test_a_worker_that_runs_waits_for_a_topic_that_is_missing() -> None:
    bench = Bench()
    bench.broker.missing = True
    with pytest.raises(Unavailable, match="no such topic"):
        bench.watch.check()


def test_a_log_that_is_still_the_same_passes() -> None:
    Bench().watch.check()
