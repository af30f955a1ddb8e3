"""`POST /call/end` as one ASGI application, without a framework.

The order in which a request is judged: path, method, credentials, content type, content encoding and announced length
without reading; size and time while the body is read; the call; whether the key may post to its project; the size of
its record. 200 only when the broker has acknowledged it.

An absent Content-Type is refused like a wrong one. Every client that is meant to use this door sends it; a page in a
browser can post to a loopback address without one, and without asking anybody.
"""

import asyncio
import itertools
import logging
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from processor import __version__
from processor.calls import has_negative_count, parse_call_end
from processor.codec.rows import encode
from processor.config import Ingest
from processor.deadline import Clock
from processor.errors import TooLarge
from processor.ingest import answers
from processor.ingest.answers import Answer, Refused
from processor.ingest.auth import Credentials
from processor.ingest.body import WHOLE, Body, Disconnected, Intake, Receive
from processor.ingest.inflate import inflate
from processor.ingest.key_file import Key
from processor.ingest.publisher import Publisher
from processor.metrics import IngestMetrics

log = structlog.get_logger(__name__)

Scope = dict[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
RawHeaders = Iterable[tuple[bytes, bytes]]

ABOUT: Final = answers.answer(
    "served", {"about": "LLM calls in, exact totals out", "name": "call-processor", "version": __version__,
          "take": "POST /call/end"}
)  # fmt: skip
RECORD_OVERHEAD_BYTES: Final = 128  # of Kafka's batch and record, more than ever needed: the topic's limit includes it
SAY_EVERY_S: Final = 10.0
LEFT: Final = "left"  # counted for clients that left before their body was complete; nobody receives an answer


def utc_now() -> datetime:
    return datetime.now(UTC)


class Door:
    """The ASGI application. `horizon_days`: the dedupe horizon, by which the age of a call is judged.

    `credentials`: None, and nobody is asked for any.
    """

    def __init__(
        self,
        publisher: Publisher,
        settings: Ingest,
        metrics: IngestMetrics,
        *,
        horizon_days: int,
        credentials: Credentials | None = None,
        now: Callable[[], datetime] = utc_now,
        clock: Clock = time.perf_counter,
        intake: Intake | None = None,
    ) -> None:
        self._publisher = publisher
        self._settings = settings
        self._metrics = metrics
        self._horizon_days = horizon_days
        self._credentials = credentials
        self._now = now
        self._clock = clock
        self._say_at_s = clock()
        self._intake = intake or Intake(
            settings.max_body_bytes,
            budget_bytes=settings.max_in_flight_bytes,
            budget_requests=settings.max_in_flight_requests,
        )
        self._process = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._tells_all = logging.getLogger(__name__).isEnabledFor(logging.DEBUG)
        metrics.in_flight_limit_bytes.set(self._intake.budget_bytes)
        metrics.in_flight_limit_requests.set(self._intake.budget_requests)
        metrics.in_flight_bytes.set_function(lambda: self._intake.in_flight_bytes)
        metrics.in_flight_requests.set_function(lambda: self._intake.in_flight_requests)

    def close(self) -> None:
        """No body is waited for any longer. Called in the event loop, when nothing new is accepted."""
        self._intake.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_s = self._clock()
        request_id = self._new_request_id()
        with Body(self._intake, scope.pop(WHOLE, None)) as body:
            reason = LEFT
            try:
                answer = await self._answer(request_id, scope, body, receive)
                reason = answer.reason
                await self._send(answer, request_id, scope["headers"], body, receive, send)
            except Disconnected:
                pass
            finally:
                seconds = self._clock() - started_s
                self._metrics.answered(reason, seconds)
                if self._tells_all:
                    log.debug("answered", request_id=request_id, reason=reason, seconds=round(seconds, 6))

    async def turn_away(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application of connections for which there is no room."""
        now_s = self._clock()
        if now_s >= self._say_at_s:
            self._say_at_s = now_s + SAY_EVERY_S
            log.warning("no room for more connections: answering 503")
        with Body(self._intake, scope.pop(WHOLE, None)) as body:
            await self._send(answers.NO_ROOM, self._new_request_id(), scope["headers"], body, receive, send)
        self._metrics.answered(answers.NO_ROOM.reason, self._clock() - now_s)

    def _new_request_id(self) -> str:
        """Ours: a client's own may say anything."""
        return f"{self._process}-{next(self._numbers):x}"

    async def _answer(self, request_id: str, scope: Scope, body: Body, receive: Receive) -> Answer:
        try:
            return await self._route(scope, body, receive)
        except Disconnected:
            raise
        except asyncio.CancelledError:  # the server does not wait for us any longer
            return answers.unavailable("shutting_down", 1)
        except Exception as error:  # noqa: BLE001  # a fault of one request must not become another's
            return answers.answer_to(error) or _unforeseen(error, request_id)

    async def _route(self, scope: Scope, body: Body, receive: Receive) -> Answer:
        path, method = scope["path"], scope["method"]
        if path == "/call/end":
            return await self._call_end(scope["headers"], body, receive) if method == "POST" else answers.ONLY_POST
        if path == "/":
            return ABOUT if method in {"GET", "HEAD"} else answers.ONLY_GET
        return answers.NOT_FOUND

    async def _call_end(self, headers: RawHeaders, body: Body, receive: Receive) -> Answer:
        self._intake.judge()
        sender = None if self._credentials is None else self._credentials.judge(headers)
        is_gzip = self._judge(headers)
        content = await body.read(receive)
        if is_gzip:
            content = inflate(content, self._intake.limit_bytes, body.take)
        self._metrics.body_bytes.observe(len(content))
        project_id, value, negative = self._record(content, sender)
        del content
        self._metrics.record_bytes.observe(len(project_id) + len(value))
        acknowledged = self._publisher.publish(project_id, value)
        del value  # the producer has its own copy, for as long as the broker is waited for
        await acknowledged
        if negative:
            self._metrics.negative_counts.inc()
        return answers.ACCEPTED

    def _judge(self, headers: RawHeaders) -> bool:
        """Whether the body is gzip."""
        is_json = is_gzip = False
        for name, value in headers:
            if name == b"content-type":
                is_json = _is_json(value)
            elif name == b"content-encoding" and (encoding := value.strip().lower()) not in {b"", b"identity"}:
                if is_gzip or encoding not in {b"gzip", b"x-gzip"}:
                    raise Refused(answers.ENCODED)
                is_gzip = True
            elif name == b"content-length" and int(value) > self._intake.limit_bytes:
                raise TooLarge("the body", self._intake.limit_bytes)
        if not is_json:
            raise Refused(answers.NOT_JSON)
        return is_gzip

    def _record(self, body: bytes, sender: Key | None) -> tuple[bytes, bytes, bool]:
        """Key and value, and whether a count is negative. Synchronous: the parsed call is gone before the wait."""
        request = parse_call_end(body, now=self._now(), horizon_days=self._horizon_days)
        if sender is not None and not sender.may_post_to(request.end.project_id):
            raise Refused(answers.FORBIDDEN)
        key = request.end.project_id.encode()
        value = encode(request, keep_output=self._settings.keep_output)
        if len(key) + len(value) + RECORD_OVERHEAD_BYTES > self._settings.max_record_bytes:
            raise TooLarge("the record made of this call", self._settings.max_record_bytes)
        return key, value, has_negative_count(request)

    async def _send(
        self, answer: Answer, request_id: str, headers: RawHeaders, body: Body, receive: Receive, send: Send
    ) -> None:
        named = [*answer.headers, (answers.REQUEST_ID, request_id.encode())]
        if body.complete or not _has_body(headers):
            await send({"type": "http.response.start", "status": answer.status, "headers": named})
            await send({"type": "http.response.body", "body": answer.body})
            return
        body.give_back()  # else who sends slowly what nobody wants would use up the budget
        closing = [*(header for header in named if header != answers.CLOSE), answers.CLOSE]
        await send({"type": "http.response.start", "status": answer.status, "headers": closing})
        await send({"type": "http.response.body", "body": answer.body, "more_body": True})
        if not answer.closes:
            await self._intake.discard(receive)
        await send({"type": "http.response.body", "body": b""})


def _is_json(content_type: bytes) -> bool:
    """`application/json` or any `+json`, parameters aside: JSON is UTF-8, whatever `charset` says."""
    if content_type == b"application/json":
        return True
    media_type = content_type.partition(b";")[0].strip().lower()
    return media_type == b"application/json" or (b"/" in media_type and media_type.endswith(b"+json"))


def _has_body(headers: RawHeaders) -> bool:
    return any((name == b"content-length" and value != b"0") or name == b"transfer-encoding" for name, value in headers)


def _unforeseen(error: Exception, request_id: str) -> Answer:
    """Where it happened and of which kind it is; its text and the values on the stack may be the client's."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
    log.error("a request failed", request_id=request_id, error=type(error).__name__, where=where)
    return answers.BROKEN
