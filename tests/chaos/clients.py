"""Clients that behave as the SDK does, and remember nothing but what they were told.

A call gets up to 3 attempts, or 3 x 3, as the SDK's two kinds of requests have; again after 429, 408, 5xx, a broken
connection and no answer in time; never after another refusal. `Retry-After` is honoured up to a bound, so that a run
ends. Each attempt goes to either door, as behind a load balancer; a connection is kept while it works.

Raw asyncio streams on uvloop in a thread of their own: 50 us a request, as the servers share the machine with us.
"""

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from random import Random
from typing import Final

import uvloop

from tests.chaos.posts import Post, request_body

CONNECTIONS: Final = 64
ATTEMPTS: Final = (3, 9)  # of every second client
TIMEOUT_S: Final = 30.0  # the SDK's
LONGEST_PAUSE_S: Final = 5.0  # the SDK honours Retry-After up to 60 s
AGAIN: Final = {408, 409, 429}  # and all from 500
_HEADER: Final = re.compile(rb"\r\n(content-length|retry-after|connection): *([^\r]*)", re.IGNORECASE)


class Fate(IntEnum):
    """Of one post, as its client knows it."""

    UNSENT = 0
    ACKNOWLEDGED = 1  # 200
    REFUSED = 2  # dropped, as the SDK does
    UNKNOWN = 3  # no attempt ended with 200: it may be on the log or not


@dataclass(slots=True)
class Outcomes:
    """`fates`: by number of the post."""

    fates: bytearray
    statuses: Counter[int] = field(default_factory=Counter)  # of all answers
    refusals: dict[int, int] = field(default_factory=dict)  # number of the post: status
    attempts: int = 0
    unanswered: int = 0  # attempts

    def count(self, fate: Fate) -> int:
        return self.fates.count(fate)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    retry_after_s: float | None


class Connection:
    """One client's, kept alive; to another door after each failure."""

    def __init__(self, doors: Sequence[tuple[str, int]], r: Random) -> None:
        self._doors, self._r = doors, r
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, request: bytes) -> Answer:
        """`OSError`, `EOFError`, `TimeoutError`: no answer."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._post(request)
        except BaseException:
            self.close()
            raise

    async def _post(self, request: bytes) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._r.choice(self._doors))
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        headers = {name.lower(): value for name, value in _HEADER.findall(head)}
        await reader.readexactly(int(headers[b"content-length"]))
        if headers.get(b"connection") == b"close":
            self.close()
        retry_after = headers.get(b"retry-after")
        return Answer(int(head[9:12]), None if retry_after is None else float(retry_after))

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


class Clients:
    """Post all of `posts`, at most `rate_s` of them a second; more slowly if the doors are slower."""

    def __init__(self, doors: Sequence[tuple[str, int]], posts: Iterator[Post], amount: int, rate_s: float) -> None:
        self.outcomes = Outcomes(bytearray(amount))
        self._doors = doors
        self._posts = posts
        self._interval_s = 1 / rate_s
        self._thread = threading.Thread(target=self._run, name="clients")
        self._error: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    @property
    def done(self) -> bool:
        """When every post has its fate. What went wrong with the clients themselves is raised here."""
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def stop_when_done(self) -> None:
        self._thread.join()

    def stop(self) -> None:
        """Nothing new is sent; returns when what is being sent has its fate."""
        self._posts = iter(())
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._post_all())
        except BaseException as error:  # noqa: BLE001  # raised in the thread that asks
            self._error = error

    async def _post_all(self) -> None:
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as clients:
            for number in range(CONNECTIONS):
                clients.create_task(self._client(number, began_s))

    async def _client(self, number: int, began_s: float) -> None:
        r = Random(number)
        connection = Connection(self._doors, r)
        attempts = ATTEMPTS[number % len(ATTEMPTS)]
        while (post := next(self._posts, None)) is not None:
            wait_s = began_s + post.number * self._interval_s - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            self.outcomes.fates[post.number] = await self._deliver(post, connection, attempts, r)
        connection.close()

    async def _deliver(self, post: Post, connection: Connection, attempts: int, r: Random) -> Fate:
        request = http_request(post)
        for attempt in range(1, attempts + 1):
            self.outcomes.attempts += 1
            pause_s = min(LONGEST_PAUSE_S, 0.1 * 2**attempt) * r.uniform(0.5, 1)
            try:
                answer = await connection.post(request)
            except (OSError, EOFError, TimeoutError):
                self.outcomes.unanswered += 1
            else:
                self.outcomes.statuses[answer.status] += 1
                if answer.status == 200:
                    return Fate.ACKNOWLEDGED
                if answer.status < 500 and answer.status not in AGAIN:
                    self.outcomes.refusals[post.number] = answer.status
                    return Fate.REFUSED
                if answer.retry_after_s is not None:
                    pause_s = min(LONGEST_PAUSE_S, answer.retry_after_s)
            if attempt < attempts:
                await asyncio.sleep(pause_s)
        return Fate.UNKNOWN


def http_request(post: Post) -> bytes:
    body = request_body(post)
    headers = "".join(f"{name}: {value}\r\n" for name, value in post.headers)
    head = f"POST /call/end HTTP/1.1\r\nhost: door\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body
