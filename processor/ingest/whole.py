"""Serving a request that arrived whole, which nearly all do: without a task, answered with a single write.

A task, an event and two writes cost more than all that the door does with a call. The application is the same ASGI
function as for every other request; what is spared is the machinery around it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from processor.ingest.answers import CLOSE
from processor.ingest.body import WHOLE

App = Callable[..., Awaitable[None]]


class Errand:
    """Runs a coroutine that waits for futures only, beginning now. It stands among the tasks that a server waits for,
    and cancels when it stops; `asyncio.current_task` knows nothing of it, so there can be no `asyncio.timeout` in it.
    """

    __slots__ = ("_coroutine", "_errands", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None], errands: set[Any]) -> None:
        self._coroutine = coroutine
        self._errands = errands
        self._waits_for: asyncio.Future[Any] | None = None
        errands.add(self)
        self._go_on()

    def cancel(self, msg: str | None = None) -> None:
        """What it waits for is cancelled, as that of a task would be."""
        if self._waits_for is not None:
            self._waits_for.cancel(msg)

    def _go_on(self, _done: object = None) -> None:
        try:
            self._waits_for = self._coroutine.send(None)
            self._waits_for.add_done_callback(self._go_on)
        except StopIteration:
            self._errands.discard(self)
        except BaseException:
            self._errands.discard(self)  # else the server would wait for it when it stops
            raise


async def serve(app: App, cycle: RequestResponseCycle, default_headers: list[tuple[bytes, bytes]]) -> None:
    """`cycle`: uvicorn's, of a request whose body is complete."""
    cycle.scope[WHOLE] = bytes(cycle.body)  # type: ignore[typeddict-unknown-key]
    cycle.body = bytearray()

    async def one_write(scope: Any, receive: Any, _: Any) -> None:
        await app(scope, receive, _OneWrite(cycle, default_headers).send)

    await cycle.run_asgi(one_write)


class _OneWrite:
    """Head and body of an answer together; an answer in pieces is left to uvicorn."""

    __slots__ = ("_cycle", "_default_headers", "_start")

    def __init__(self, cycle: RequestResponseCycle, default_headers: list[tuple[bytes, bytes]]) -> None:
        self._cycle = cycle
        self._default_headers = default_headers
        self._start: Any = None

    async def send(self, message: Any) -> None:
        cycle, start = self._cycle, self._start
        if start is None and message["type"] == "http.response.start":
            self._start = message
        elif cycle.response_started or message.get("more_body") or cycle.scope["method"] == "HEAD":
            if not cycle.response_started:
                await cycle.send(start)
            await cycle.send(message)
        else:
            await self._write(start, message["body"])

    async def _write(self, start: Any, body: bytes) -> None:
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        if CLOSE in start["headers"]:
            cycle.keep_alive = False
        parts = [STATUS_LINE[start["status"]]]
        for name, value in (*self._default_headers, *start["headers"]):
            parts += (name, b": ", value, b"\r\n")
        if not cycle.keep_alive and CLOSE not in start["headers"]:
            parts.append(b"connection: close\r\n")
        parts += (b"\r\n", body)
        cycle.response_started = cycle.response_complete = True
        cycle.transport.write(b"".join(parts))
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
