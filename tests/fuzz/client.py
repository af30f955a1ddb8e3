"""Sends requests over some connections and judges every answer."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import uvloop

from tests.fuzz.requests import Request
from tests.fuzz.verdict import fault

ANSWER_WITHIN_S: Final = 20.0  # longer is a hang: the door gives a body up after 10 s
SHOWN: Final = 20


@dataclass(slots=True)
class Answers:
    """`wild`: those without an answer count as status 0. `faults`: the first of them, with the request's beginning."""

    statuses: Counter[int] = field(default_factory=Counter)
    wild: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        return self.statuses.total() + self.wild.total()

    def judge(self, request: Request, status: int, head: bytes, body: bytes) -> None:
        (self.wild if request.wild else self.statuses)[status] += 1
        wrong = fault(request, status, head, body)
        if wrong is not None:
            self.blame(wrong, request, f"{head[:300]!r} {body[:300]!r}")

    def blame(self, wrong: str, request: Request, said: str = "") -> None:
        """One example of each fault is enough."""
        if len(self.faults) < SHOWN and not any(fault.startswith(wrong) for fault in self.faults):
            self.faults.append(f"{wrong}: {said} to {request.wire[:1500]!r}")


def send(host: str, port: int, requests: Iterator[Request], *, connections: int, seconds: float) -> Answers:
    """Until the requests or the time are at an end."""
    answers = Answers()
    began_s = time.monotonic()

    async def all_connections() -> None:
        client = _Client(host, port, requests, answers, began_s + seconds)
        await asyncio.gather(*(client.run() for _ in range(connections)))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(all_connections())
    answers.seconds = time.monotonic() - began_s
    return answers


@dataclass(slots=True)
class _Client:
    host: str
    port: int
    requests: Iterator[Request]
    answers: Answers
    ends_at_s: float

    async def run(self) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for request in self.requests:
            if request.wild:
                await self._wild(request)
            else:
                connection = await self._sound(request, connection)
            if time.monotonic() > self.ends_at_s:
                break
        if connection is not None:
            connection[1].close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port, limit=2**20)

    async def _sound(
        self, request: Request, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """The connection for the next one, if it may be kept."""
        reader, writer = connection or await self._connect()
        began_s = time.monotonic()
        writer.write(request.wire)
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        except (TimeoutError, OSError, EOFError) as error:
            self.answers.blame(f"no answer ({type(error).__name__})", request)
            self.answers.statuses[0] += 1
            writer.close()
            return None
        self.answers.slowest_s = max(self.answers.slowest_s, time.monotonic() - began_s)
        self.answers.judge(request, int(head[9:12]), head, body)
        if b"connection: close" in head:
            writer.close()
            return None
        return reader, writer

    async def _wild(self, request: Request) -> None:
        """Say it, say that this was all, and hear what comes until the other side closes too."""
        reader, writer = await self._connect()
        heard = b""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                writer.write(request.wire)
                writer.write_eof()
                while piece := await reader.read(2**16):
                    heard += piece
        except TimeoutError:
            self.answers.blame("hangs", request)
        except OSError:
            pass  # it was hung up on while it still sent
        writer.close()
        if not heard:
            self.answers.wild[0] += 1
        for answer in heard.split(b"HTTP/1.1 ")[1:]:
            head, _, body = answer.partition(b"\r\n\r\n")
            self.answers.judge(request, int(head[:3]), head, body)
