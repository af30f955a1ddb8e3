"""uvicorn as this door needs it: an order of stopping that loses no request, and limits on what comes before a body."""

import asyncio
import ipaddress
import math
import signal
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, Final

import httptools
import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from processor.admin import cannot_listen
from processor.config import PREFIX, Ingest, split_listen
from processor.deadline import Clock
from processor.errors import ExitCode, Stop
from processor.ingest import whole
from processor.ingest.accept import Acceptor
from processor.ingest.app import Door
from processor.ingest.body import CLOSING_READ_TIMEOUT_S, LINGER_S
from processor.ingest.room import EXCESS

log = structlog.get_logger(__name__)

KEEP_ALIVE_S: Final = 75  # longer than the 60 s of common proxies, which would otherwise meet closed connections
HEAD_TIMEOUT_S: Final = 10
HEAD_LIMIT_BYTES: Final = 64 * 1024
BACKLOG: Final = 2048


def bind(listen: str) -> socket.socket:
    """A listening socket; `Stop` (DEPENDENCY) if the port is taken."""
    host, port = split_listen(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise Stop(ExitCode.DEPENDENCY, cannot_listen(listen, error, f"{PREFIX}INGEST__LISTEN")) from None


def refuse_open_door(ingest: Ingest) -> None:
    """Without keys anybody who reaches the door may post: so only this machine does, unless the operator insists."""
    if ingest.keys_file is not None or ingest.auth_disabled or _is_loopback(ingest.listen):
        return
    raise Stop(
        ExitCode.USAGE,
        f"{PREFIX}INGEST__LISTEN is {ingest.listen}, beyond this machine, and nobody would be asked for credentials: "
        f"set {PREFIX}INGEST__KEYS_FILE (`call-processor keys new` makes a key), listen on 127.0.0.1, or set "
        f"{PREFIX}INGEST__AUTH_DISABLED=true if something in front of it asks",
    )


def warn_of_plain_http(ingest: Ingest) -> None:
    if ingest.tls_cert_file is None and not _is_loopback(ingest.listen):
        log.warning(
            f"the door speaks plain HTTP beyond this machine: keys and calls can be read on their way; set "
            f"{PREFIX}INGEST__TLS_CERT_FILE and _KEY_FILE, unless TLS ends in front of it, in a network that you trust",
            listen=ingest.listen,
        )


def _is_loopback(listen: str) -> bool:
    host, _ = split_listen(listen)
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class DoorServer(uvicorn.Server):
    """SIGTERM or SIGINT: `stopping` at once, so that readiness ends; after `shutdown_wait_s` nothing new is accepted;
    what is in flight is answered; `run` returns. A second SIGINT does not wait.

    `room`: connections at a time; who comes then is told to come again, and those that are there are served. `tls`:
    what to listen with; absent: HTTP.
    """

    def __init__(
        self, door: Door, settings: Ingest, room: int, tls: ssl.SSLContext | None = None, clock: Clock = time.monotonic
    ) -> None:
        protocol: Any = partial(DoorProtocol, room=room, turn_away=door.turn_away)
        super().__init__(
            uvicorn.Config(
                _as_asgi(door),
                loop="uvloop", http=protocol, ws="none", lifespan="off", interface="asgi3",
                ssl_context_factory=None if tls is None else lambda *_: tls,
                log_config=None, access_log=False, proxy_headers=False, server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=math.ceil(settings.ack_timeout_s + CLOSING_READ_TIMEOUT_S),
            )
        )  # fmt: skip
        self._door = door
        self._shutdown_wait_s = settings.shutdown_wait_s
        self._clock = clock
        self._stop_asked_s: float | None = None
        self._ticked_s = clock()

    @property
    def stopping(self) -> bool:
        return self._stop_asked_s is not None

    def seconds_since_tick(self) -> float:
        """How long the event loop has not turned; 0.1 when all is well."""
        return self._clock() - self._ticked_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn would stop accepting at once, and die of the signal in the end instead of returning."""
        if self._stop_asked_s is None:
            self._stop_asked_s = self._clock()
        else:
            self.should_exit = True
            self.force_exit = sig == signal.SIGINT

    async def on_tick(self, counter: int) -> bool:
        self._ticked_s = self._clock()
        if self._stop_asked_s is not None and self._ticked_s - self._stop_asked_s >= self._shutdown_wait_s:
            self.should_exit = True
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's, but for who takes the connections."""
        config, state = self.config, self.server_state
        protocol: Any = config.http_protocol_class
        protocol = partial(protocol, config=config, server_state=state, app_state=self.lifespan.state)
        self.servers = [Acceptor(one, protocol, config.ssl) for one in sockets or []]  # type: ignore[misc]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._door.close()
        await super().shutdown(sockets)


def _as_asgi(door: Door) -> Callable[..., object]:
    return door


def _new_parser(protocol: HttpToolsProtocol) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's: what follows a close is ignored
    return parser


class DoorProtocol(HttpToolsProtocol):
    """httptools has neither a limit nor a deadline for the head of a request, uvicorn none for the first one.

    uvicorn's own limit of connections would, when it is reached, refuse the requests of those that are there, too. It
    sets a timer after each answer; here one timer looks now and then how long the connection has rested.
    """

    def __init__(self, *args: Any, room: int, turn_away: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._room = room
        self._turn_away = turn_away
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._in_head = False
        self._receiving = False
        self._begun: tuple[RequestResponseCycle, Any] | None = None  # by what is being received
        self._rests_since_s: float | None = None  # None: a request is under way

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        excess = len(self.connections) - self._room
        if excess > EXCESS:
            transport.abort()
        elif excess > 0:
            self.app = self._turn_away
            self.loop.call_later(LINGER_S, transport.abort)
        self._rests_since_s = self.loop.time()
        self._rest_timer = self.loop.call_later(self.timeout_keep_alive, self._look_whether_it_rests)

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest_timer.cancel()
        self._end_of_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._receiving = True
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        self._receiving = False
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._refuse_head()
            elif self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.timeout_keep_alive_handler)
        if self._begun is not None:
            begun, self._begun = self._begun, None
            if not self.transport.is_closing():  # what followed was refused, and the client takes that for the answer
                # Not at once: the loop reads on while a thousand connections have something to say. Who is answered
                # meanwhile has so again, and timers, acknowledgements and their answers would wait for the load to end.
                self.loop.call_soon(self._start_asgi_task, *begun)

    def on_message_begin(self) -> None:  # not by empty lines, which may come before it
        self._rests_since_s = None
        self._in_head = True
        super().on_message_begin()

    def _parse(self, data: bytes) -> None:
        """`Upgrade` is ignored (RFC 9110, 7.8): Java's HttpClient wishes for HTTP/2 with its first call.

        httptools stops behind such a head and knows of no body, so the head is parsed once more, without that header.
        It is made of what was parsed, so there is no second reading of where it ends and what it says.
        """
        rest = memoryview(data)
        while rest:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as stopped:
                rest = rest[stopped.args[0] :]
                if self.parser.get_method() == b"CONNECT":  # asks for a tunnel by its method
                    raise httptools.HttpParserError("no tunnel") from None
                head = self._head_without_upgrade()
                self.parser = _new_parser(self)  # the former one reads nothing more if the client asked to close
                self.parser.feed_data(head)
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        request = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        headers = (name + b": " + value for name, value in self.headers if name != b"upgrade")
        return b"\r\n".join((request, *headers, b"", b""))

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # it comes again
        self._rests_since_s = None  # once more: an answer to the one before may have come between
        self._end_of_head()
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """uvicorn calls it when the head is there; whether the body is, shows when all has been looked at."""
        if self._receiving:
            self._begun = cycle, app
        elif cycle.more_body:
            super()._start_asgi_task(cycle, app)
        else:
            whole.Errand(whole.serve(app, cycle, self.server_state.default_headers), self.tasks)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:  # not at once: the answers of hundreds would be nested in each other
            self.loop.call_soon(self._start_asgi_task, *self.pipeline.pop())
        else:
            self._rests_since_s = self.loop.time()

    def _look_whether_it_rests(self) -> None:
        left_s = float(self.timeout_keep_alive)
        if self._rests_since_s is not None:
            left_s -= self.loop.time() - self._rests_since_s
        if left_s <= 0:
            self.timeout_keep_alive_handler()
        else:
            self._rest_timer = self.loop.call_later(left_s, self._look_whether_it_rests)

    def _end_of_head(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse_head(self) -> None:
        self._end_of_head()
        self.transport.write(STATUS_LINE[431] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()
