"""Requests that arrived whole: served without a task, and answered with the bytes that uvicorn would have sent."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from processor.ingest import answers
from processor.ingest.body import WHOLE
from processor.ingest.whole import App, Errand, serve

DATE = [(b"date", b"Mon, 23 Nov 2026 12:00:00 GMT")]


class Transport(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


class Request:
    """One that arrived whole: uvicorn's cycle on a transport that goes nowhere."""

    def __init__(self, method: str = "POST", *, keep_alive: bool = True, body: bytes = b"") -> None:
        self.transport = Transport()
        self.answered = 0
        self.errands: set[Any] = set()
        logger = logging.getLogger("test")
        self.cycle = RequestResponseCycle(
            scope={"type": "http", "method": method, "headers": []},  # type: ignore[typeddict-item]
            transport=self.transport, flow=FlowControl(self.transport), logger=logger, access_logger=logger,
            access_log=False, default_headers=DATE, message_event=asyncio.Event(), expect_100_continue=False,
            keep_alive=keep_alive, on_response=self._count,
        )  # fmt: skip
        self.cycle.body += body
        self.cycle.more_body = False

    def _count(self) -> None:
        self.answered += 1

    def serve(self, app: App) -> None:
        Errand(serve(app, self.cycle, DATE), self.errands)

    def outcome(self) -> tuple[bytes, bool, int]:
        return b"".join(self.transport.written), self.transport.closed, self.answered


def answering(answer: answers.Answer) -> App:
    async def app(_scope: Any, _receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        await send({"type": "http.response.start", "status": answer.status, "headers": [*answer.headers]})
        await send({"type": "http.response.body", "body": answer.body})

    return app


async def in_pieces(_scope: Any, _receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{", "more_body": True})
    await send({"type": "http.response.body", "body": b"}"})


async def silent(_scope: Any, _receive: Any, _send: Any) -> None:
    pass


async def failing(_scope: Any, _receive: Any, _send: Any) -> None:
    raise RuntimeError("a bug")


async def failing_afterwards(scope: Any, receive: Any, send: Any) -> None:
    await answering(answers.ACCEPTED)(scope, receive, send)
    raise RuntimeError("a bug")


APPS = {
    "an answer": answering(answers.ACCEPTED),
    "an answer that closes": answering(answers.NO_ROOM),
    "an answer in pieces": in_pieces,
    "no answer": silent,
    "a fault before the answer": failing,
    "a fault after the answer": failing_afterwards,
}


@pytest.mark.parametrize("name", APPS)
@pytest.mark.parametrize("method", ["POST", "GET", "HEAD"])
@pytest.mark.parametrize("keep_alive", [True, False])
def test_the_client_receives_what_uvicorn_would_have_sent(name: str, method: str, *, keep_alive: bool) -> None:
    ours, uvicorns = (Request(method, keep_alive=keep_alive) for _ in range(2))
    ours.serve(APPS[name])
    asyncio.run(uvicorns.cycle.run_asgi(APPS[name]))
    assert ours.outcome() == uvicorns.outcome()
    assert ours.errands == set()
    assert ours.transport.written


def test_an_answer_is_one_write() -> None:
    request = Request()
    request.serve(answering(answers.ACCEPTED))
    assert len(request.transport.written) == 1


def test_the_body_is_in_the_scope_and_nothing_is_left_to_receive() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope.pop(WHOLE))
        await answering(answers.ACCEPTED)(scope, receive, send)

    request = Request(body=b'{"end": {}}')
    request.serve(app)
    assert seen == [b'{"end": {}}']
    assert request.cycle.body == b""


def test_a_client_that_does_not_read_is_answered_when_it_reads_again() -> None:
    async def story() -> None:
        request = Request()
        request.cycle.flow.pause_writing()
        request.serve(answering(answers.ACCEPTED))
        await asyncio.sleep(0)
        assert (request.transport.written, len(request.errands)) == ([], 1)
        request.cycle.flow.resume_writing()
        await until(lambda: not request.errands)
        assert request.answered == 1

    asyncio.run(story())


def test_a_client_that_leaves_before_it_is_answered_is_written_nothing() -> None:
    async def story() -> None:
        request = Request()
        request.cycle.flow.pause_writing()
        request.serve(answering(answers.ACCEPTED))
        request.cycle.disconnected = True
        request.cycle.flow.resume_writing()
        await until(lambda: not request.errands)
        assert request.outcome() == (b"", False, 0)

    asyncio.run(story())


# --- the errand itself


def test_an_errand_begins_at_once_and_goes_on_when_what_it_waits_for_is_there() -> None:
    async def story() -> None:
        errands: set[Any] = set()
        done: list[str] = []
        fates = [asyncio.get_running_loop().create_future() for _ in range(3)]

        async def waits() -> None:
            done.append("begun")
            done.append(await fates[0])
            done.append(await fates[1])
            done.append(await fates[2])

        errand = Errand(waits(), errands)
        assert (done, errands) == (["begun"], {errand})
        fates[1].set_result("second")  # already there when it is waited for
        fates[0].set_result("first")
        await until(lambda: len(done) == 3)
        assert errand in errands
        fates[2].set_result("third")
        await until(lambda: not errands)
        assert done == ["begun", "first", "second", "third"]

    asyncio.run(story())


def test_an_errand_that_is_cancelled_hears_of_it_where_it_waits_and_may_still_say_something() -> None:
    async def story() -> None:
        errands: set[Any] = set()
        said: list[str] = []

        async def waits() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                said.append("shutting down")

        Errand(waits(), errands).cancel(msg="the server stops")
        await until(lambda: not errands)
        assert said == ["shutting down"]

    asyncio.run(story())


def test_an_errand_that_has_ended_is_not_harmed_by_a_cancellation() -> None:
    async def story() -> None:
        Errand(silent(None, None, None), set()).cancel()

    asyncio.run(story())


async def rests() -> None:
    await asyncio.sleep(0)  # a task's way to wait for nothing


@pytest.mark.parametrize(("coroutine", "error"), [(failing, RuntimeError), (lambda *_: rests(), AttributeError)])
def test_nobody_waits_for_an_errand_that_failed(coroutine: Any, error: type[Exception]) -> None:
    errands: set[Any] = set()
    with pytest.raises(error):
        Errand(coroutine(None, None, None), errands)
    assert errands == set()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)
