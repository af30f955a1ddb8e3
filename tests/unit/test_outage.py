"""When the brokers are known to be away, and who may look whether they are back."""

from processor.ingest.outage import PROBE_EVERY_S, Outage
from processor.kafka.client import ClientEvent


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def event(name: str, *, text: str = "", all_down: bool = False, refuses_us: bool = False) -> ClientEvent:
    return ClientEvent(name, text or name, all_down, refuses_us, fatal=False)


ALL_DOWN = event("_ALL_BROKERS_DOWN", text="1/1 brokers are down", all_down=True)
REFUSED = event("_TRANSPORT", text="kafka:9092: Connection refused")


class Bench:
    def __init__(self) -> None:
        self.clock = Clock()
        self.changes: list[tuple[bool, str]] = []
        self.outage = Outage(lambda away, why: self.changes.append((away, why)), self.clock)


def test_all_is_well_until_something_else_is_told() -> None:
    bench = Bench()
    assert [bench.outage.admits() for _ in range(3)] == [True, True, True]
    bench.outage.on_event(REFUSED)
    assert not bench.outage.is_known, "one broker of many may refuse a connect"
    assert bench.changes == []


def test_all_brokers_down_begins_an_outage_once_and_tells_why_they_are() -> None:
    bench = Bench()
    for told in (REFUSED, ALL_DOWN, REFUSED, ALL_DOWN):
        bench.outage.on_event(told)
    assert bench.outage.is_known
    assert bench.changes == [(True, "kafka:9092: Connection refused")]


def test_during_an_outage_one_probe_goes_through_every_half_second() -> None:
    bench = Bench()
    bench.outage.on_event(ALL_DOWN)
    admitted = 0
    for _ in range(100):
        bench.clock.now_s += PROBE_EVERY_S / 10
        admitted += bench.outage.admits()
    assert admitted in (9, 10)


def test_the_first_acknowledgement_ends_it() -> None:
    bench = Bench()
    bench.outage.on_event(ALL_DOWN)
    assert not bench.outage.admits()
    bench.outage.acknowledged()
    assert [bench.outage.admits() for _ in range(3)] == [True, True, True]
    assert [away for away, _ in bench.changes] == [True, False]


def test_a_frozen_broker_is_known_by_a_record_that_failed_with_no_acknowledgement_since_it_was_produced() -> None:
    bench = Bench()
    bench.outage.acknowledged()
    bench.clock.now_s += 1
    produced_at_s = bench.clock.now_s
    bench.clock.now_s += 8
    bench.outage.failed(produced_at_s, "timed out")
    assert bench.changes == [(True, "timed out")]


def test_one_partition_without_a_leader_is_no_outage_while_others_acknowledge() -> None:
    bench = Bench()
    produced_at_s = bench.clock.now_s
    bench.clock.now_s += 7.9
    bench.outage.acknowledged()
    bench.clock.now_s += 0.1
    bench.outage.failed(produced_at_s, "timed out")
    assert not bench.outage.is_known


def test_brokers_that_refuse_our_credentials_are_remembered_until_they_take_a_record() -> None:
    bench = Bench()
    bench.outage.on_event(event("_AUTHENTICATION", text="SASL authentication failed", refuses_us=True))
    assert bench.outage.refused_because == "SASL authentication failed"
    bench.outage.acknowledged()
    assert bench.outage.refused_because is None
