"""What the door is promised of a record, without a broker: reports are told by hand, from another thread."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import pytest
from prometheus_client import CollectorRegistry

from processor.errors import TooLarge, Unavailable
from processor.ingest import publisher as publisher_module
from processor.ingest.memory import MemoryPublisher
from processor.ingest.outage import Outage
from processor.ingest.publisher import PROBE_WAIT_S, SERVE_EVERY_S, KafkaPublisher
from processor.kafka.client import ClientEvent
from processor.kafka.producer import Headers, NotDelivered, OnDelivery, PerhapsTooLarge, QueueFull
from processor.metrics import IngestMetrics

ALL_DOWN = ClientEvent(
    "_ALL_BROKERS_DOWN", "1/1 brokers are down", all_brokers_down=True, refuses_us=False, fatal=False
)


class Records:
    """Stands where `Producer.produce` does: keeps what it takes, and its reports are told when the test says so."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.taken: list[tuple[str, bytes | None, bytes | None]] = []
        self._reports: list[OnDelivery] = []
        self._refusal = refusal

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, on_delivery: OnDelivery
    ) -> None:
        if self._refusal is not None:
            raise self._refusal
        self.taken.append((topic, key, value))
        self._reports.append(on_delivery)

    @property
    def waiting(self) -> int:
        return len(self._reports)

    def serve(self) -> None:
        """Nothing is told here."""

    def forget(self) -> OnDelivery:
        """The oldest record's report, which nobody tells."""
        return self._reports.pop(0)

    def report(self, error: Exception | None = None) -> None:
        """Tell what became of the oldest record, as the poll thread does."""
        thread = threading.Thread(target=self._reports.pop(0), args=(error,))
        thread.start()
        thread.join()


class Served(Records):
    """Its reports are told, the oldest first, when it is served; of how many records they are known, the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.known: list[Exception | None] = []
        self.served = 0
        self.in_threads: set[int] = set()

    def serve(self) -> None:
        self.served += 1
        self.in_threads.add(threading.get_ident())
        while self.known:
            self._reports.pop(0)(self.known.pop(0))


class Failures(Outage):
    """Keeps what it is told of records that were not acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def failed(self, produced_at_s: float, why: str) -> None:
        self.told.append(why)
        super().failed(produced_at_s, why)


def publisher(records: Records, outage: Outage | None = None, ack_timeout_s: float = 5) -> KafkaPublisher:
    metrics = IngestMetrics(CollectorRegistry())
    return KafkaPublisher(
        records.produce, "calls", outage or Outage(), metrics, ack_timeout_s=ack_timeout_s, serve=records.serve
    )


ONE_IS_LOST: Final[list[Exception | None]] = [None, None, Unavailable("lost"), None, None]


async def five_that_wait(records: Records) -> list[asyncio.Task[None]]:
    one = publisher(records)
    tasks = [asyncio.create_task(one.publish(b"a/b", b"%d" % i)) for i in range(5)]
    await until(lambda: len(records.taken) == 5)
    return tasks


def are_lost(outcomes: Sequence[BaseException | None]) -> list[bool]:
    return [isinstance(outcome, Unavailable) for outcome in outcomes]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


def fate(records: Records, outage: Outage | None = None, report: Exception | None = None) -> None:
    """Publish one record and tell this report of it."""

    async def story() -> None:
        task = asyncio.create_task(publisher(records, outage).publish(b"a/b", b"value"))
        await until(lambda: records.taken)
        records.report(report)
        await task

    asyncio.run(story())


def test_t26_nothing_is_promised_before_the_report() -> None:
    records = Records()

    async def story() -> None:
        task = asyncio.create_task(publisher(records).publish(b"a/b", b"value"))
        await until(lambda: records.taken)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not task.done()
        records.report()
        await task

    asyncio.run(story())
    assert records.taken == [("calls", b"a/b", b"value")]


def test_many_requests_wait_at_the_same_time_each_for_its_own_report() -> None:
    records = Records()

    async def story() -> list[BaseException | None]:
        tasks = await five_that_wait(records)
        for error in ONE_IS_LOST:
            records.report(error)
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert are_lost(asyncio.run(story())) == [False, False, True, False, False]


@pytest.mark.parametrize("error", [QueueFull("full"), Unavailable("shutting down"), TooLarge("the record", 1)])
def test_what_the_producer_does_not_take_is_told_at_once(error: Exception) -> None:
    with pytest.raises(type(error)):
        asyncio.run(publisher(Records(error)).publish(b"a/b", b"value"))


def test_a_record_that_is_given_up_is_unavailable_and_begins_an_outage() -> None:
    outage = Outage()
    with pytest.raises(Unavailable):
        fate(Records(), outage, Unavailable("Local: Message timed out"))
    assert outage.is_known


@pytest.mark.parametrize("error", [TooLarge("the record", 100), PerhapsTooLarge("the batch", "MSG_SIZE_TOO_LARGE")])
def test_a_size_that_the_broker_refuses_says_nothing_about_the_broker(error: Exception) -> None:
    outage = Outage()
    with pytest.raises(type(error)):
        fate(Records(), outage, error)
    assert not outage.is_known


def test_a_record_that_shared_a_batch_with_a_large_one_is_not_called_too_large() -> None:
    with pytest.raises(Unavailable):  # 413 would make the client drop a call that is quite all right
        fate(Records(), report=PerhapsTooLarge("the batch", "MSG_SIZE_TOO_LARGE"))


def test_a_report_that_does_not_come_in_time_is_unavailable_and_harmless_when_it_comes() -> None:
    records = Records()

    async def story() -> None:
        with pytest.raises(Unavailable):
            await publisher(records, ack_timeout_s=0.01).publish(b"a/b", b"value")
        records.report()
        await asyncio.sleep(0)

    asyncio.run(story())


def test_a_report_that_comes_after_the_event_loop_is_closed_is_harmless() -> None:
    records = Records()

    async def story() -> None:
        with pytest.raises(Unavailable):
            await publisher(records, ack_timeout_s=0.01).publish(b"a/b", b"value")

    asyncio.run(story())
    records.report(Unavailable("purged"))


def test_while_the_brokers_are_known_to_be_away_the_answer_is_immediate_and_nothing_is_queued() -> None:
    records, outage = Records(), Outage()
    outage.on_event(ALL_DOWN)
    with pytest.raises(Unavailable) as caught:
        asyncio.run(publisher(records, outage).publish(b"a/b", b"value"))
    assert 1 <= caught.value.retry_after_s <= 60
    assert records.taken == []


def test_the_probe_brings_the_brokers_return_to_light() -> None:
    now_s = [0.0]
    outage = Outage(clock=lambda: now_s[0])
    outage.on_event(ALL_DOWN)
    now_s[0] += 1
    fate(Records(), outage)
    assert not outage.is_known


def test_the_client_whose_record_is_the_probe_does_not_wait_for_the_whole_timeout() -> None:
    now_s = [0.0]
    outage = Outage(clock=lambda: now_s[0])
    outage.on_event(ALL_DOWN)
    now_s[0] += 1
    began_s = time.monotonic()
    with pytest.raises(Unavailable):
        asyncio.run(publisher(Records(), outage, ack_timeout_s=60).publish(b"a/b", b"value"))
    assert time.monotonic() - began_s < PROBE_WAIT_S + 1


def test_while_records_wait_their_reports_are_taken_in_the_event_loop_and_settle_them_there() -> None:
    records = Served()

    async def story() -> list[BaseException | None]:
        tasks = await five_that_wait(records)
        records.known += ONE_IS_LOST
        await until(lambda: records.waiting == 0)
        await asyncio.sleep(0)  # the turn in which those that wait go on: nothing is told across threads
        assert all(task.done() for task in tasks)
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert are_lost(asyncio.run(story())) == [False, False, True, False, False]
    assert records.in_threads == {threading.get_ident()}


def test_a_report_in_another_thread_settles_its_record_in_the_event_loop_all_the_same() -> None:
    records, refused = Served(), list[Exception]()

    def told() -> None:
        try:
            records.forget()(None)
        except RuntimeError as error:  # of asyncio, which looks at the thread while it is debugged
            refused.append(error)

    async def story() -> None:
        task = asyncio.create_task(publisher(records).publish(b"a/b", b"value"))
        await until(lambda: records.served)
        thread = threading.Thread(target=told)
        thread.start()
        thread.join()
        assert refused == []
        await task

    asyncio.run(story(), debug=True)


def test_when_no_record_waits_nobody_is_served_and_the_next_record_is() -> None:
    records = Served()

    async def story() -> None:
        one = publisher(records)
        for _ in range(3):
            records.known.append(None)
            await one.publish(b"a/b", b"value")
            await asyncio.sleep(20 * SERVE_EVERY_S)
            served = records.served
            await asyncio.sleep(20 * SERVE_EVERY_S)
            assert records.served == served

    asyncio.run(story())
    assert records.waiting == 0


def test_a_record_whose_report_never_comes_holds_up_no_other_and_is_given_up_once_in_its_time() -> None:
    records, outage = Served(), Failures()

    async def story() -> None:
        one = publisher(records, outage, ack_timeout_s=0.2)
        first = asyncio.create_task(one.publish(b"a/b", b"first"))
        await until(lambda: records.taken)
        lost = records.forget()
        for _ in range(10):
            records.known.append(None)
            await one.publish(b"a/b", b"another")
        assert not first.done()
        with pytest.raises(Unavailable, match="no acknowledgement in time"):
            await first
        assert outage.told == ["no acknowledgement in time"]
        assert not outage.is_known  # others were acknowledged since
        lost(None)
        records.known.append(None)
        await one.publish(b"a/b", b"another")

    asyncio.run(story())


def test_a_probe_that_is_given_up_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "PROBE_WAIT_S", 0.01)
    outage = Failures()
    outage.on_event(ALL_DOWN)

    async def story() -> None:
        with pytest.raises(Unavailable):
            await publisher(Served(), outage, ack_timeout_s=0.05).publish(b"a/b", b"value")
        await asyncio.sleep(0.1)  # the ack timeout has passed as well

    monkeypatch.setattr(outage, "admits", lambda: True)
    asyncio.run(story())
    assert outage.told == ["no acknowledgement in time"]


def test_a_client_that_is_not_waited_for_any_longer_harms_no_other() -> None:
    records = Served()

    async def story() -> None:
        one = publisher(records)
        task = asyncio.create_task(one.publish(b"a/b", b"value"))
        await until(lambda: records.taken)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        records.known += [Unavailable("lost"), None]  # of both, one after the other
        await one.publish(b"a/b", b"value")

    asyncio.run(story())


def test_records_are_attended_to_in_another_event_loop_when_the_one_before_is_closed() -> None:
    records = Served()
    one = publisher(records)

    async def left_waiting() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one.publish(b"a/b", b"value"), 0.01)

    async def told() -> None:
        records.known += [None, None]
        await one.publish(b"a/b", b"value")

    asyncio.run(left_waiting())
    asyncio.run(told())
    assert records.waiting == 0


def test_the_double_in_memory_fails_where_it_is_told_to() -> None:
    memory = MemoryPublisher(fail_at={1: Unavailable("as told")})

    async def story() -> None:
        await memory.publish(b"k", b"0")
        with pytest.raises(Unavailable):
            await memory.publish(b"k", b"1")
        await memory.publish(b"k", b"2")

    asyncio.run(story())
    assert memory.records == [(b"k", b"0"), (b"k", b"2")]


def test_what_was_not_acknowledged_is_counted_by_the_clients_name_for_it_and_what_was_by_its_time() -> None:
    registry, now_s = CollectorRegistry(), [100.0]
    records = Records()
    door = KafkaPublisher(
        records.produce,
        "calls",
        Outage(),
        IngestMetrics(registry),
        ack_timeout_s=5,
        serve=records.serve,
        clock=lambda: now_s[0],
    )

    async def story(report: Exception | None) -> None:
        task = asyncio.create_task(door.publish(b"a/b", b"value"))
        await until(lambda: records.waiting)
        now_s[0] += 0.3
        records.report(report)
        await task

    asyncio.run(story(None))
    with pytest.raises(NotDelivered):
        asyncio.run(story(NotDelivered("Local: Message timed out", "_MSG_TIMED_OUT")))
    assert registry.get_sample_value("call_processor_ack_seconds_bucket", {"le": "0.5"}) == 1
    assert registry.get_sample_value("call_processor_ack_seconds_count") == 1
    assert registry.get_sample_value("call_processor_producer_errors_total", {"kind": "_MSG_TIMED_OUT"}) == 1
