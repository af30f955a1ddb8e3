"""The producer without a broker: what it is configured with, how it fails, and that every record is reported once."""

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import confluent_kafka
import pytest

from processor.deadline import Deadline
from processor.errors import ExitCode, Stop, TooLarge, Unavailable
from processor.kafka.client import ClientEvent
from processor.kafka.producer import REBUILD_EVERY_S, NotDelivered, OnDelivery, Producer, QueueFull, RecordTooLarge
from processor.kafka.promises import dead_letter_properties, producer_properties
from tests.stack import wait_until

NOBODY = {"bootstrap.servers": "127.0.0.1:1", "log_level": "0"}
RECORD = ("calls", b"key", b"value", ())


def properties(**changes: object) -> dict[str, object]:
    return {**producer_properties(NOBODY, delivery_timeout_s=5, max_record_bytes=1_000_000), **changes}


@pytest.fixture
def events() -> list[ClientEvent]:
    return []


@pytest.fixture
def producer(events: list[ClientEvent]) -> Iterator[Producer]:
    producer = Producer(properties(), events.append)
    yield producer
    producer.close(0)


def test_no_property_of_the_operator_overrides_a_promise() -> None:
    hostile = {"acks": "1", "enable.idempotence": "false", "partitioner": "random", "linger.ms": "500"}
    promised = producer_properties({**NOBODY, **hostile}, delivery_timeout_s=8, max_record_bytes=1000)
    assert (promised["acks"], promised["enable.idempotence"]) == ("all", True)
    assert (promised["partitioner"], promised["linger.ms"]) == ("murmur2_random", 1)
    assert promised["message.timeout.ms"] == 8000


def test_tuning_of_the_operator_overrides_a_default() -> None:
    tuned = producer_properties(
        {"compression.type": "zstd", "batch.size": "5000"}, delivery_timeout_s=8, max_record_bytes=8000
    )
    assert (tuned["compression.type"], tuned["batch.size"]) == ("zstd", 5000)


def test_no_batch_is_fuller_than_what_the_topic_takes() -> None:
    assert producer_properties({}, delivery_timeout_s=8, max_record_bytes=8000)["batch.size"] == 8000
    assert dead_letter_properties({})["message.max.bytes"] == 100_000_000


def test_a_configuration_that_librdkafka_refuses_as_a_whole_is_a_sentence() -> None:
    with pytest.raises(Stop) as caught:
        Producer(properties(**{"security.protocol": "ssl", "ssl.ca.location": "/no/such/file"}))
    assert caught.value.exit_code == ExitCode.USAGE


def test_brokers_that_are_not_there_are_told_of_within_moments(producer: Producer, events: list[ClientEvent]) -> None:
    wait_until(lambda: any(event.all_brokers_down for event in events), within_s=5, what="all brokers are down")
    assert any("127.0.0.1:1" in event.text for event in events if not event.all_brokers_down)


def test_closing_gives_up_what_is_not_acknowledged_and_reports_it_once(producer: Producer) -> None:
    reports: list[Exception | None] = []
    for _ in range(3):
        producer.produce(*RECORD, reports.append)
    producer.close(0.05)
    assert [type(report) for report in reports] == [NotDelivered] * 3
    with pytest.raises(Unavailable):
        producer.produce(*RECORD, reports.append)


def test_its_log_is_silent_about_each_connect_that_fails_and_about_properties_of_consumers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events: list[ClientEvent] = []
    producer = Producer(properties(**{"group.protocol": "consumer", "log_level": "6"}), events.append)
    wait_until(lambda: len(events) > 3, within_s=5, what="some connects have failed")
    producer.close(0)
    assert caplog.records == []


def test_a_full_queue_is_told_at_once() -> None:
    producer = Producer(properties(**{"queue.buffering.max.messages": 2}))
    reports: list[Exception | None] = []
    producer.produce(*RECORD, reports.append)
    producer.produce(*RECORD, reports.append)
    with pytest.raises(QueueFull):
        producer.produce(*RECORD, reports.append)
    producer.close(0)
    assert len(reports) == 2


def test_a_record_that_is_too_large_is_told_at_once(producer: Producer) -> None:
    with pytest.raises(TooLarge):
        producer.produce("calls", b"key", b"x" * 1_000_001, (), lambda _: None)


def test_a_callback_that_raises_does_not_end_the_reports(producer: Producer) -> None:
    reports: list[Exception | None] = []

    def faulty(_: Exception | None) -> None:
        raise RuntimeError("a bug")

    producer.produce(*RECORD, faulty)
    producer.produce(*RECORD, reports.append)
    producer.close(0)
    assert len(reports) == 1


def test_publish_all_tells_that_records_were_not_acknowledged_in_time(producer: Producer) -> None:
    with pytest.raises(Unavailable, match="2 records were not acknowledged"):
        producer.publish_all([RECORD, RECORD], timeout_s=0.05)


def test_publish_all_waits_for_room_in_the_queue_and_not_for_ever() -> None:
    producer = Producer(properties(**{"queue.buffering.max.messages": 2}))
    with pytest.raises(Unavailable):
        producer.publish_all([RECORD] * 5, timeout_s=0.05)
    producer.close(0)


def test_publish_all_names_the_record_that_is_too_large() -> None:
    producer = Producer(properties(**{"message.timeout.ms": 100}))
    with pytest.raises(RecordTooLarge) as caught:
        producer.publish_all([("calls", None, b"x" * 1_000_001, ())], timeout_s=5)
    assert caught.value.index == 0
    producer.close(0)


def test_a_topic_cannot_be_asked_for_when_no_broker_answers(producer: Producer) -> None:
    with pytest.raises(Unavailable):
        producer.partitions("calls", timeout_s=0.05)


def test_after_a_fatal_error_records_are_reported_and_a_new_producer_is_built(events: list[ClientEvent]) -> None:
    now_s = [100.0]
    producer = Producer(properties(), events.append, clock=lambda: now_s[0])
    reports: list[Exception | None] = []
    producer.produce(*RECORD, reports.append)
    fail_fatally(producer)
    wait_until(lambda: reports, within_s=5, what="the record is reported")
    assert isinstance(reports[0], Unavailable)
    assert any(event.fatal for event in events)
    with pytest.raises(Unavailable):  # not at every call: the cause may last
        producer.produce(*RECORD, reports.append)
    now_s[0] += REBUILD_EVERY_S
    producer.produce(*RECORD, reports.append)
    assert producer.is_alive
    now_s[0] += 60
    producer.close(0)
    assert len(reports) == 2


def test_a_producer_that_fails_is_not_destroyed_while_another_thread_is_in_it(producer: Producer) -> None:
    answers: list[Exception] = []

    def ask() -> None:
        try:
            producer.partitions("calls", timeout_s=0.5)
        except Unavailable as error:
            answers.append(error)

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    fail_fatally(producer)
    for thread in asking:
        thread.join()
    assert len(answers) == 4


# --- whoever serves itself, with a broker that librdkafka plays


def played(events: list[ClientEvent]) -> Producer:
    return Producer(properties(**{"test.mock.num.brokers": 1, "allow.auto.create.topics": True}), events.append)


def test_who_serves_itself_hears_in_its_own_thread_and_who_stops_loses_nothing(events: list[ClientEvent]) -> None:
    producer = played(events)
    heard: list[tuple[str, Exception | None]] = []

    def report(error: Exception | None) -> None:
        heard.append((threading.current_thread().name, error))

    for i in range(1, 101):
        producer.produce(*RECORD, report)
        serve_until(producer, lambda n=i: len(heard) == n)  # type: ignore[misc]
    in_our_own = [name for name, _ in heard].count(threading.current_thread().name)
    assert in_our_own > 50  # all but those of moments in which this machine let us wait
    producer.produce(*RECORD, report)
    wait_until(lambda: len(heard) == 101, within_s=10, what="a report without being served")
    assert heard[-1] == ("kafka-producer", None)
    assert {error for _, error in heard} == {None}
    producer.close(0)
    producer.serve()
    assert len(heard) == 101


def test_each_record_is_reported_once_while_two_threads_serve_and_the_producer_fails(events: list[ClientEvent]) -> None:
    producer = played(events)
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.wait(0.001):
            producer.serve()

    serving = threading.Thread(target=serve)
    serving.start()
    heard: list[int] = []
    taken: set[int] = set()
    for i in range(3000):
        if i == 2000:
            fail_fatally(producer)
        with suppress(Unavailable):
            producer.produce(*RECORD, lambda _, i=i: heard.append(i))  # type: ignore[misc]
            taken.add(i)
    wait_until(lambda: len(heard) >= len(taken) > 0, within_s=10, what="all are reported")
    stopping.set()
    serving.join()
    producer.close(1)
    assert sorted(heard) == sorted(taken)
    assert len(taken) >= 2000


def test_a_fatal_error_is_told_to_who_serves_itself_and_a_new_producer_is_served(events: list[ClientEvent]) -> None:
    producer = played(events)
    reports: list[Exception | None] = []
    fail_fatally(producer)
    serve_until(producer, lambda: events)
    assert {event.fatal for event in events} == {True}
    producer.serve()  # of one that has failed
    wait_until(lambda: took(producer, reports.append), within_s=5, what="a new one is built")
    serve_until(producer, lambda: reports)
    assert reports == [None]
    producer.close(0)


def serve_until(producer: Producer, condition: Callable[[], object]) -> None:
    deadline = Deadline.after(10)
    while not condition():
        assert not deadline.passed()
        producer.serve()
        time.sleep(0.001)


def took(producer: Producer, on_delivery: OnDelivery) -> bool:
    try:
        producer.produce(*RECORD, on_delivery)
    except Unavailable:
        return False
    return True


def fail_fatally(producer: Producer) -> None:
    """As the broker's verdict on a sequence number would. librdkafka offers this for tests; Python hides its handle."""
    bundled = list(Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka*"))
    if not bundled:
        pytest.skip("librdkafka is not where the Linux wheel has it")
    library = ctypes.CDLL(str(bundled[0]))
    library.rd_kafka_test_fatal_error.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
    after_object_head = object.__basicsize__
    with producer._client.using() as raw:
        handle = ctypes.c_void_p.from_address(id(raw) + after_object_head).value
        assert library.rd_kafka_test_fatal_error(handle, 45, b"a test") == 0
