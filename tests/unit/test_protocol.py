"""One connection of the door on a clock that is turned by hand: when it is hung up on, and when never."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from processor.config import Ingest
from processor.ingest.app import Door
from processor.ingest.memory import MemoryPublisher
from processor.ingest.server import HEAD_TIMEOUT_S, KEEP_ALIVE_S, DoorProtocol, DoorServer
from processor.metrics import IngestMetrics
from tests.running_door import body

HEAD = b"POST /call/end HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
CALL = HEAD + b"content-length: %d\r\n\r\n" % len(body()) + body()
BAD_CALL = HEAD + b"content-length: 1\r\n\r\n{"


class Timer:
    def __init__(self, at_s: float, call: Callable[[], object]) -> None:
        self.at_s = at_s
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """What the protocol uses of an event loop, save tasks. Time passes when it is told to."""

    def __init__(self) -> None:
        self._now_s = 1000.0
        self._timers: list[Timer] = []

    def time(self) -> float:
        return self._now_s

    def call_later(self, delay_s: float, call: Callable[..., object], *args: object) -> Timer:
        self._timers.append(Timer(self._now_s + delay_s, partial(call, *args)))
        return self._timers[-1]

    def call_soon(self, call: Callable[..., object], *args: object) -> Timer:
        return self.call_later(0, call, *args)

    @property
    def timers(self) -> list[Timer]:
        return sorted((timer for timer in self._timers if not timer.cancelled), key=lambda timer: timer.at_s)

    def pass_s(self, seconds: float) -> None:
        until_s = self._now_s + seconds
        while self.timers and self.timers[0].at_s <= until_s:
            first = self.timers[0]
            self._timers.remove(first)
            self._now_s = max(self._now_s, first.at_s)
            first.call()
        self._now_s = until_s


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = self.is_read = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True


class Connection:
    def __init__(self) -> None:
        self.clock, self.transport, self.memory = Clock(), Transport(), MemoryPublisher()
        door = Door(self.memory, Ingest(), IngestMetrics(CollectorRegistry()), horizon_days=35)
        server = DoorServer(door, Ingest(), room=100)
        self.state = server.server_state
        server.config.load()
        protocol: Any = server.config.http_protocol_class
        self.protocol: DoorProtocol = protocol(server.config, self.state, {}, self.clock)
        self.protocol.connection_made(self.transport)

    @property
    def answers(self) -> list[bytes]:
        """The statuses that the client has received."""
        return [part[:3] for part in self.transport.written.split(b"HTTP/1.1 ")[1:]]

    def says(self, data: bytes) -> None:
        """And the loop turns."""
        self.protocol.data_received(data)
        self.clock.pass_s(0)

    def is_open_for_s(self, seconds: float) -> bool:
        """Whether it is so long, to the second, and then no longer."""
        self.clock.pass_s(seconds - 1)
        was_open = not self.transport.closed
        self.clock.pass_s(1)
        return was_open and self.transport.closed


def test_a_connection_that_sends_nothing_is_hung_up_on_after_the_keep_alive_time() -> None:
    assert Connection().is_open_for_s(KEEP_ALIVE_S)


def test_nothing_is_answered_while_the_loop_still_reads_as_it_would_never_come_to_anything_else() -> None:
    one = Connection()
    one.protocol.data_received(BAD_CALL)
    assert one.answers == []
    one.clock.pass_s(0)
    assert one.answers == [b"422"]


def test_each_answer_begins_the_rest_anew() -> None:
    one = Connection()
    for i in range(5):
        one.says(BAD_CALL)
        assert one.answers == [b"422"] * (i + 1)
        one.clock.pass_s(KEEP_ALIVE_S - 1)
        assert not one.transport.closed
    one.says(BAD_CALL)
    assert one.is_open_for_s(KEEP_ALIVE_S)


def test_a_connection_has_one_timer_however_many_calls_it_serves_and_none_when_it_is_lost() -> None:
    one = Connection()
    for _ in range(100):
        one.says(BAD_CALL)
    assert len(one.clock.timers) == 1
    one.protocol.connection_lost(None)
    assert one.clock.timers == []


@pytest.mark.parametrize("rested_s", [0, KEEP_ALIVE_S - 5])
def test_half_a_head_is_waited_for_as_long_as_a_head_is_and_no_longer(rested_s: float) -> None:
    one = Connection()
    one.clock.pass_s(rested_s)
    one.says(HEAD)
    assert one.is_open_for_s(HEAD_TIMEOUT_S)


def test_half_a_head_behind_a_call_is_not_waited_for_any_longer() -> None:
    one = Connection()
    one.says(BAD_CALL + HEAD)
    assert one.answers == [b"422"]
    assert one.is_open_for_s(HEAD_TIMEOUT_S)


@pytest.mark.parametrize("before", [b"", BAD_CALL], ids=["at first", "after a call"])
def test_empty_lines_are_no_request_and_keep_no_connection_open(before: bytes) -> None:
    one = Connection()
    one.says(before)
    one.clock.pass_s(KEEP_ALIVE_S - 10)
    one.says(b"\r\n")
    assert one.is_open_for_s(10)


def while_a_call_waits(story: Callable[[Connection], Awaitable[None]]) -> None:
    """The story of a connection whose calls are not acknowledged until `acknowledge`."""

    async def told() -> None:
        one = Connection()
        one.memory.acknowledging.clear()
        await story(one)

    asyncio.run(told())


async def acknowledge(one: Connection) -> None:
    one.memory.acknowledging.set()
    async with asyncio.timeout(5):
        while one.state.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0)


def test_a_call_under_way_is_waited_for_and_rests_from_its_answer_on() -> None:
    async def story(one: Connection) -> None:
        one.says(CALL)
        one.clock.pass_s(100 * KEEP_ALIVE_S + 50)
        assert (one.answers, one.transport.closed) == ([], False)
        await acknowledge(one)
        assert one.answers == [b"200"]
        assert one.is_open_for_s(KEEP_ALIVE_S)

    while_a_call_waits(story)


def test_a_call_whose_head_began_before_the_answer_to_another_is_waited_for_too() -> None:
    async def story(one: Connection) -> None:
        one.says(BAD_CALL + CALL[:20])
        assert one.answers == [b"422"]
        one.says(CALL[20:])
        one.clock.pass_s(10 * KEEP_ALIVE_S)
        assert not one.transport.closed
        await acknowledge(one)
        assert one.answers == [b"422", b"200"]

    while_a_call_waits(story)


def test_a_call_that_follows_another_waits_for_its_answer() -> None:
    async def story(one: Connection) -> None:
        one.says(CALL + BAD_CALL)
        one.says(BAD_CALL)
        one.clock.pass_s(1)
        assert (one.answers, one.transport.is_read, len(one.memory.records)) == ([], False, 1)
        await acknowledge(one)
        one.says(CALL)  # before those that wait had their turn
        one.clock.pass_s(0)
        assert one.answers == [b"200", b"422", b"422", b"200"]
        assert one.transport.is_read
        assert one.is_open_for_s(KEEP_ALIVE_S)

    while_a_call_waits(story)


def test_a_call_that_is_followed_by_what_is_not_http_is_not_taken_as_its_client_is_told_400() -> None:
    one = Connection()
    one.says(CALL + b"\0\r\n\r\n")
    assert (one.answers, one.transport.closed) == ([b"400"], True)
    assert one.memory.records == []


def test_a_call_that_is_followed_by_a_head_without_end_is_not_taken_as_its_client_is_told_431() -> None:
    one = Connection()
    one.says(CALL + HEAD + b"x: " + b"x" * 100_000)
    assert (one.answers, one.transport.closed) == ([b"431"], True)
    assert one.memory.records == []


def test_after_an_answer_that_closes_nothing_more_is_served() -> None:
    one = Connection()
    one.says(CALL.replace(b"host: x", b"connection: close") + CALL)
    one.clock.pass_s(1)
    assert (one.answers, len(one.memory.records), one.transport.closed) == ([b"200"], 1, True)
