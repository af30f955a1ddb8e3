"""What the door learns of its topic before it opens, and afterwards."""

import pytest

from processor.errors import ExitCode, Stop, Unavailable
from processor.ingest import topic_watch
from processor.ingest.outage import Outage
from processor.ingest.topic_watch import TopicWatch
from processor.kafka.client import ClientEvent
from tests.stack import wait_until

ALL_DOWN = ClientEvent(
    "_ALL_BROKERS_DOWN", "1/1 brokers are down", all_brokers_down=True, refuses_us=False, fatal=False
)
REFUSED = ClientEvent("_AUTHENTICATION", "SASL: wrong password", all_brokers_down=False, refuses_us=True, fatal=False)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_watch, "ASK_EVERY_S", 0.01)


class Broker:
    """`partitions` is what it answers; None: it does not."""

    def __init__(self, partitions: int | None) -> None:
        self.partitions = partitions

    def __call__(self, topic: str, timeout_s: float) -> int:
        if self.partitions is None:
            raise Unavailable("no broker")
        return self.partitions


def test_a_topic_that_is_there_is_seen() -> None:
    with TopicWatch(Broker(12), "calls", Outage()) as watch:
        watch.wait_for_first_answer()
        assert watch.seen


def test_a_topic_that_is_missing_stops_the_start_with_the_command_that_makes_it() -> None:
    with (
        TopicWatch(Broker(0), "calls", Outage()) as watch,
        pytest.raises(Stop, match="topic calls does not exist: run `call-processor topics`") as caught,
    ):
        watch.wait_for_first_answer()
    assert caught.value.exit_code == ExitCode.DEPENDENCY


def test_brokers_that_refuse_us_stop_the_start_with_their_reason() -> None:
    outage = Outage()
    outage.on_event(REFUSED)
    outage.on_event(ALL_DOWN)
    with TopicWatch(Broker(None), "calls", outage) as watch, pytest.raises(Stop, match="wrong password") as caught:
        watch.wait_for_first_answer()
    assert caught.value.exit_code == ExitCode.DEPENDENCY


def test_brokers_that_are_away_do_not_keep_the_door_shut_and_are_found_later() -> None:
    outage, broker = Outage(), Broker(None)
    outage.on_event(ALL_DOWN)
    with TopicWatch(broker, "calls", outage) as watch:
        watch.wait_for_first_answer()
        assert not watch.seen
        broker.partitions = 12
        wait_until(lambda: watch.seen, within_s=5, what="the topic is seen")
