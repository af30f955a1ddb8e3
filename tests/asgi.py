"""Drives an ASGI application without a server: exactly these messages arrive, exactly those were sent."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

App = Callable[
    [dict[str, Any], Callable[[], Awaitable[dict[str, Any]]], Callable[..., Awaitable[None]]], Awaitable[None]
]
Headers = Iterable[tuple[str, str]]

JSON: Headers = (("content-type", "application/json"),)
DISCONNECT = {"type": "http.disconnect"}


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Client:
    """`messages` arrive one after the other; after the last one nothing ever arrives, as from a client that waits."""

    messages: Sequence[dict[str, Any]]
    sent: list[dict[str, Any]]
    received: int = 0

    async def receive(self) -> dict[str, Any]:
        if self.received == len(self.messages):
            await asyncio.Event().wait()
        self.received += 1
        return self.messages[self.received - 1]

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def response(self) -> Response | None:
        """None if nothing was answered."""
        if not self.sent:
            return None
        start, *rest = self.sent
        assert start["type"] == "http.response.start"
        assert not rest[-1].get("more_body"), "the answer was not finished"
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        body = b"".join(message["body"] for message in rest)
        assert int(headers["content-length"]) == len(body)
        return Response(start["status"], headers, body)


def chunks(*bodies: bytes) -> list[dict[str, Any]]:
    """The messages of a body that arrives in these pieces."""
    last = len(bodies) - 1
    return [{"type": "http.request", "body": body, "more_body": i < last} for i, body in enumerate(bodies)]


def scope(method: str = "POST", path: str = "/call/end", headers: Headers = JSON, length: int = 0) -> dict[str, Any]:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    if length:
        raw.append((b"content-length", str(length).encode()))
    return {"type": "http", "method": method, "path": path, "headers": raw}


async def exchange(app: App, request: dict[str, Any], messages: Sequence[dict[str, Any]]) -> Response | None:
    client = Client(messages, [])
    await app(request, client.receive, client.send)
    return client.response()


async def post(app: App, body: bytes, headers: Headers = JSON, **request: Any) -> Response:
    answered = await exchange(app, scope(headers=headers, length=len(body), **request), chunks(body))
    assert answered is not None
    return answered
