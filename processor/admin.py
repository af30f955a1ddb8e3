"""/metrics, /livez and /readyz on a port of their own, the same for both roles, in threads of their own.

These threads answer while the role's own loop is busy or stuck: that is what /livez has to tell.
"""

import errno
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from processor.config import PREFIX, split_listen
from processor.deadline import Clock, Deadline
from processor.errors import ExitCode, Stop

TEXT: Final = "text/plain; charset=utf-8"
LOOK_EVERY_S: Final = 0.1  # whether to stop
FRESH_S: Final = 0.5  # who asks more often gets the same page: making one costs a hundred times as much as sending it


def nothing() -> list[str]:
    return []


@dataclass(frozen=True, slots=True)
class Health:
    """Questions, asked from another thread: None is good, a short sentence says what is wrong (503).

    `alive`: stuck only, never a dependency (a restart would not help it). `ready`: takes work. `notes`: what somebody
    who looks would like to know beside that; it changes no verdict.
    """

    alive: Callable[[], str | None]
    ready: Callable[[], str | None]
    notes: Callable[[], list[str]] = nothing


class AdminServer:
    """A context manager: listens when entered, is gone when left. `Stop` (DEPENDENCY) if the port is taken."""

    def __init__(self, listen: str, registry: CollectorRegistry, health: Health) -> None:
        self._listen = listen
        self._page = _Page(registry, time.monotonic)
        self._handler = _handler(self._page, health)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def wait_for_scrape(self, timeout_s: float, impatient: Callable[[], bool]) -> None:
        """Until somebody has read the metrics as they are now, if somebody reads them at all: what a process has to say
        before it ends would be seen by nobody else."""
        before, deadline = self._page.read, Deadline.after(timeout_s)
        self._page.forget()
        while before and self._page.read == before and not (deadline.passed() or impatient()):
            time.sleep(LOOK_EVERY_S)

    def __enter__(self) -> Self:
        self._server = _bind(self._listen, self._handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(LOOK_EVERY_S,), name="admin", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Page:
    """The metrics as text. `read`: how often it was asked for."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self.read = 0
        self._registry = registry
        self._clock = clock
        self._making = threading.Lock()
        self._made: dict[str, tuple[float, bytes]] = {}  # by content type: when, and what

    def forget(self) -> None:
        with self._making:
            self._made.clear()

    def text(self, accept: str, *, no_cache: bool = False) -> tuple[str, bytes]:
        """Content type and bytes; not older than FRESH_S, or made for this one."""
        encode, content_type = choose_encoder(accept)
        with self._making:
            made_s, text = self._made.get(content_type, (-FRESH_S, b""))
            now_s = self._clock()
            if no_cache or now_s - made_s >= FRESH_S:
                text = encode(self._registry)
                self._made[content_type] = now_s, text
            self.read += 1
            return content_type, text


class _Server(ThreadingHTTPServer):
    def server_bind(self) -> None:
        """Without HTTPServer's own, which asks the DNS for our name."""
        socketserver.TCPServer.server_bind(self)

    def get_request(self) -> tuple[socket.socket, object]:
        try:
            return super().get_request()
        except (
            OSError
        ):  # no descriptor is left, and who waits is there still: not again at once, a thousand times a second
            time.sleep(LOOK_EVERY_S)
            raise

    def handle_error(self, *_: object) -> None:
        """A client that went away is nobody's concern."""


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


def _bind(listen: str, handler: type[BaseHTTPRequestHandler]) -> _Server:
    host, port = split_listen(listen)
    try:
        return (_IPv6Server if ":" in host else _Server)((host, port), handler)
    except OSError as error:
        raise Stop(ExitCode.DEPENDENCY, cannot_listen(listen, error, f"{PREFIX}ADMIN__LISTEN")) from None


def cannot_listen(listen: str, error: OSError, setting: str) -> str:
    """The sentence of a `Stop`."""
    if error.errno == errno.EADDRINUSE:
        return f"{listen} is taken by another program: stop that one, or set {setting} to a free address"
    why = os.strerror(error.errno) if error.errno else error.strerror
    return f"cannot listen on {listen} ({why}): set {setting} to an address of this machine"


def _handler(page: _Page, health: Health) -> type[BaseHTTPRequestHandler]:
    def verdict(problem: str | None, notes: list[str]) -> tuple[int, str, bytes]:
        status = HTTPStatus.OK if problem is None else HTTPStatus.SERVICE_UNAVAILABLE
        return status, TEXT, "".join(f"{line}\n" for line in (problem or "ok", *notes)).encode()

    class Handler(BaseHTTPRequestHandler):
        timeout = 5  # seconds for a client to send its request, and to keep its connection without one
        protocol_version = "HTTP/1.1"  # a thread for each connection, not for each scrape
        disable_nagle_algorithm = True  # else the body would wait until the client's kernel confirms the head: 40 ms
        server_version = "call-processor"
        sys_version = ""

        def do_GET(self) -> None:
            status, content_type, body = self._answer()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815  # the name is the protocol's

        def _answer(self) -> tuple[int, str, bytes]:
            path, _, query = self.path.partition("?")
            if path == "/metrics":
                no_cache = "no-cache" in self.headers.get("Cache-Control", "")
                return HTTPStatus.OK, *page.text(self.headers.get("Accept", ""), no_cache=no_cache)
            if path == "/livez":
                return verdict(health.alive(), [])
            if path == "/readyz":
                return verdict(health.ready(), health.notes() if query == "verbose" else [])
            return HTTPStatus.NOT_FOUND, TEXT, b"here are /metrics, /livez and /readyz\n"

        def log_message(self, *_: Any) -> None:
            """A probe every second is no event."""

    return Handler
