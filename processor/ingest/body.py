"""Reading bodies: each within its size and time, all together within a budget of bytes and of requests.

The bytes of a request, inflated ones too, count from their arrival to its answer, so what waits for the broker is
bounded too. When the budget is short, the largest bodies are turned away first: a thousand slow ones leave room for
those who send little.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Self

from processor.errors import TooLarge, Unavailable
from processor.ingest.answers import TOO_SLOW, Refused

MIB: Final = 2**20
BUDGET_BYTES: Final = 256 * MIB
BUDGET_REQUESTS: Final = 10_000
READ_TIMEOUT_S: Final = 10.0
CLOSING_READ_TIMEOUT_S: Final = 1.0  # for what was on its way when the door closed
LINGER_S: Final = 5.0
WHOLE: Final = "call_processor.body"  # in the scope: the body, where all of it is there and nothing left to receive

Receive = Callable[[], Awaitable[dict[str, Any]]]


class Disconnected(Exception):
    """The client left before its body was complete: there is nobody to answer."""


class Intake:
    """Shared by all requests of one event loop."""

    def __init__(
        self,
        limit_bytes: int,
        *,
        budget_bytes: int = BUDGET_BYTES,
        budget_requests: int = BUDGET_REQUESTS,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self.limit_bytes = limit_bytes
        self.in_flight_bytes = 0
        self.in_flight_requests = 0
        self.budget_bytes = budget_bytes
        self.budget_requests = budget_requests
        self._read_timeout_s = read_timeout_s
        self._closing = False
        self._timers: set[asyncio.Timeout] = set()

    def close(self) -> None:
        """Who still sends has CLOSING_READ_TIMEOUT_S left, and is then told to come again."""
        self._closing = True
        ends_at_s = asyncio.get_running_loop().time() + CLOSING_READ_TIMEOUT_S
        for timer in self._timers:
            timer.reschedule(min(timer.when() or ends_at_s, ends_at_s))

    def take(self, count: int, held_bytes: int) -> None:
        """For a body that holds so many bytes, these among them; it counts double, so that large ones give way."""
        self.in_flight_bytes += count
        if self.in_flight_bytes + held_bytes > self.budget_bytes:
            raise Unavailable("too many bytes in flight", reason="in_flight_bytes")

    def judge(self) -> None:
        """Whether one request more may be looked at, this one counted already."""
        if self.in_flight_requests > self.budget_requests:
            raise Unavailable("too many requests in flight", reason="in_flight_requests")

    async def read(self, body: "Body", receive: Receive) -> bytes:
        try:
            async with self._timer(self._read_timeout_s) as timer:
                self._timers.add(timer)
                try:
                    return await body.receive_all(receive)
                finally:
                    self._timers.discard(timer)
        except TimeoutError:
            if self._closing:
                raise Unavailable("shutting down", reason="shutting_down") from None
            raise Refused(TOO_SLOW) from None

    async def discard(self, receive: Receive) -> None:
        """Receive the rest of a body that was refused, for a while: a client that still sends when its connection is
        closed sees a broken connection, and never the answer."""
        with suppress(TimeoutError):
            async with self._timer(LINGER_S) as timer:
                self._timers.add(timer)
                try:
                    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                        pass
                finally:
                    self._timers.discard(timer)

    def _timer(self, timeout_s: float) -> asyncio.Timeout:
        return asyncio.timeout(CLOSING_READ_TIMEOUT_S if self._closing else timeout_s)


class Body:
    """One request's body. A context manager: it is in flight, with its bytes, until it is left or given back.

    `whole`: all of it, if it is there already.
    """

    __slots__ = ("_held_bytes", "_in_flight", "_intake", "_whole", "complete")

    def __init__(self, intake: Intake, whole: bytes | None = None) -> None:
        self._intake = intake
        self._whole = whole
        self._held_bytes = 0
        self._in_flight = False
        self.complete = whole is not None  # nothing of it is left to receive

    def __enter__(self) -> Self:
        self._in_flight = True
        self._intake.in_flight_requests += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Nothing of it is kept any longer, and its answer is known."""
        if self._in_flight:
            self._in_flight = False
            self._intake.in_flight_requests -= 1
            self._intake.in_flight_bytes -= self._held_bytes
            self._held_bytes = 0

    def take(self, count: int) -> None:
        """`Unavailable`: there is no budget for so many bytes more."""
        self._held_bytes += count
        self._intake.take(count, self._held_bytes)

    async def read(self, receive: Receive) -> bytes:
        """`TooLarge`, `Unavailable` (no budget, shutting down), `Refused` (too slow), `Disconnected`."""
        if self._whole is None:
            return await self._intake.read(self, receive)
        content, self._whole = self._whole, None
        self._count(len(content))
        return content

    async def receive_all(self, receive: Receive) -> bytes:
        chunk, more = await self._receive(receive)
        if not more:
            return chunk
        chunks = [chunk]
        while more:
            chunk, more = await self._receive(receive)
            chunks.append(chunk)
        return b"".join(chunks)

    async def _receive(self, receive: Receive) -> tuple[bytes, bool]:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk: bytes = message.get("body", b"")
        more = bool(message.get("more_body", False))
        self.complete = not more
        self._count(len(chunk))
        return chunk, more

    def _count(self, count: int) -> None:
        self.take(count)
        if self._held_bytes > self._intake.limit_bytes:
            raise TooLarge("the body", self._intake.limit_bytes)
