"""Posts to a door from a process of its own, so that what they cost is not the door's; keeps when each was answered,
how, and how long it took.

python -m bench.posts PLAN_AS_JSON FILE
"""

import asyncio
import gzip
import json
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final

import uvloop

from processor.sample.traces import Trace, tokens

BODIES: Final = 5000  # different calls, again and again: the door does not ask whether it has seen one
PROJECTS: Final = 1000
TICK_S: Final = 0.001
LAST_ANSWERS_S: Final = 12.0  # longer than the door waits for an acknowledgement
LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
END_OF_HEAD: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Plan:
    """`per_s` 0: each connection sends as soon as it is answered. Else so many are due each second, answered or not;
    one for which no connection is idle is not sent, and counted as such. SIGTERM ends it sooner, with what it has."""

    port: int
    connections: int = 64
    seconds: float = 5.0
    per_s: float = 0.0
    body_bytes: int = 1024
    gzip: bool = False
    key: str = ""
    host: str = "127.0.0.1"


@dataclass(slots=True)
class Answers:
    """A column each, one entry an answer; `at_s` of the monotonic clock, which all processes share."""

    status: list[int] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    unsent: int = 0
    broken: int = 0  # connections that ended before their answer
    cpu_s: float = 0.0  # of posting

    def latencies_ms(self, status: int) -> list[float]:
        return [1000 * took for took, one in zip(self.took_s, self.status, strict=True) if one == status]


def requests(plan: Plan) -> list[bytes]:
    r = Random(1)
    now = datetime.now(UTC)
    return [_request(plan, body(r, now, plan.body_bytes)) for _ in range(BODIES)]


def body(r: Random, now: datetime, size: int) -> bytes:
    """A call to a model as the SDK posts it, its output filled up."""
    trace = Trace(r, project=f"acme/project-{r.randrange(PROJECTS)}", at=now, spans=False)
    call = trace.end({"usage": {"gpt-4o": tokens(r)}, "status_counts": {"success": 1, "error": 0}}) | {
        "ended_at": now.isoformat(),
        "output": "",
    }
    call["output"] = "x" * (size - len(json.dumps({"end": call})))
    return json.dumps({"end": call}).encode()


def _request(plan: Plan, content: bytes) -> bytes:
    headers = [f"host: {plan.host}:{plan.port}", "content-type: application/json"]
    if plan.gzip:
        content = gzip.compress(content)
        headers.append("content-encoding: gzip")
    if plan.key:
        headers.append(f"authorization: Bearer {plan.key}")
    headers.append(f"content-length: {len(content)}")
    return "\r\n".join(["POST /call/end HTTP/1.1", *headers, "", ""]).encode() + content


class Sender:
    def __init__(self, plan: Plan) -> None:
        self.answers = Answers()
        self.idle: list[Connection] = []
        self.finished = False
        self._plan = plan
        self._requests = requests(plan)
        self._next = 0
        self._ends_s = 0.0

    async def run(self) -> Answers:
        for _ in range(self._plan.connections):
            await self.connect()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stop)
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        self._ends_s = began_s + self._plan.seconds
        if self._plan.per_s:
            await self._as_due(began_s, self._plan.per_s)
        else:
            waiting, self.idle = self.idle, []
            for connection in waiting:
                self.free(connection)
            await self._until(lambda: time.monotonic() >= self._ends_s, self._plan.seconds)
        await self._until(lambda: len(self.idle) >= self._plan.connections, LAST_ANSWERS_S)
        self.answers.cpu_s = time.process_time() - began_cpu_s
        self.finished = True
        for connection in self.idle:
            connection.close()
        return self.answers

    async def _until(self, condition: Callable[[], bool], at_most_s: float) -> None:
        latest_s = time.monotonic() + at_most_s
        while not condition() and time.monotonic() < latest_s:  # noqa: ASYNC110  # two clocks and a list, no event
            await asyncio.sleep(TICK_S)

    def stop(self) -> None:
        self._ends_s = time.monotonic()

    async def connect(self) -> None:
        host, port = self._plan.host, self._plan.port
        await asyncio.get_running_loop().create_connection(lambda: Connection(self), host, port)

    async def _as_due(self, began_s: float, per_s: float) -> None:
        due = 0
        while (now_s := time.monotonic()) < self._ends_s:
            while due < (now_s - began_s) * per_s:
                if self.idle:
                    self.idle.pop().send(self._request(), began_s + due / per_s)
                else:
                    self.answers.unsent += 1
                due += 1
            await asyncio.sleep(TICK_S)

    def answered(self, connection: "Connection", status: int, since_s: float) -> None:
        now_s = time.monotonic()
        self.answers.status.append(status)
        self.answers.at_s.append(now_s)
        self.answers.took_s.append(now_s - since_s)
        self.free(connection)

    def free(self, connection: "Connection") -> None:
        now_s = time.monotonic()
        if self._plan.per_s or now_s >= self._ends_s:
            self.idle.append(connection)
        else:
            connection.send(self._request(), now_s)

    def _request(self) -> bytes:
        self._next = (self._next + 1) % BODIES
        return self._requests[self._next]


class Connection(asyncio.Protocol):
    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._received = b""
        self._since_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._sender.free(self)

    def send(self, request: bytes, since_s: float) -> None:
        self._since_s = since_s
        self._transport.write(request)

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(END_OF_HEAD)
        length = LENGTH.search(head)
        if end and self._since_s is not None and len(rest) >= (int(length[1]) if length else 0):
            since_s, self._since_s, self._received = self._since_s, None, b""
            self._sender.answered(self, int(head[9:12]), since_s)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._since_s is not None:
            self._sender.answers.broken += 1
        if self._sender.finished:
            return
        if self in self._sender.idle:
            self._sender.idle.remove(self)
        self._reconnecting = asyncio.ensure_future(self._sender.connect())


def main() -> None:
    plan = Plan(**json.loads(sys.argv[1]))
    answers = uvloop.run(Sender(plan).run())
    Path(sys.argv[2]).write_text(json.dumps(asdict(answers)), encoding="utf-8")


if __name__ == "__main__":
    main()
