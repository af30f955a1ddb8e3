"""A door that serves on a real socket, in a thread, with a publisher in memory if it is given no other."""

import asyncio
import json
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPResponse
from typing import Any

from prometheus_client import CollectorRegistry

from processor.config import Ingest
from processor.ingest.app import Door, utc_now
from processor.ingest.body import Intake
from processor.ingest.memory import MemoryPublisher
from processor.ingest.publisher import Publisher
from processor.ingest.server import DoorServer, bind
from processor.metrics import IngestMetrics
from tests.stack import wait_until

JSON = {"content-type": "application/json"}


def body() -> bytes:
    end = {"project_id": "acme/chat", "id": "call-1", "ended_at": datetime.now(UTC).isoformat(), "summary": {}}
    return json.dumps({"end": end}).encode()


class Running:
    """A door that serves in a thread. Signals cannot be sent to a thread: `terminate` does what SIGTERM does."""

    def __init__(
        self,
        listening: socket.socket,
        intake: Intake | None = None,
        room: int = 100,
        tls: ssl.SSLContext | None = None,
        publisher: Publisher | None = None,
        now: Callable[[], datetime] = utc_now,
        **ingest: Any,
    ) -> None:
        self.memory = MemoryPublisher()
        settings = Ingest(**ingest)
        self.intake = intake or Intake(settings.max_body_bytes)
        metrics = IngestMetrics(CollectorRegistry())
        door = Door(publisher or self.memory, settings, metrics, horizon_days=35, intake=self.intake, now=now)
        self.server = DoorServer(door, settings, room, tls)
        self.port = int(listening.getsockname()[1])
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listening]})

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=10)

    def send(self) -> HTTPConnection:
        """A good call, sent, not yet answered."""
        connection = self.connect()
        connection.request("POST", "/call/end", body(), JSON)
        return connection

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def acknowledge(self, *, now: bool) -> None:
        """From this thread: the next records are acknowledged, or not."""
        change = self.memory.acknowledging.set if now else self.memory.acknowledging.clear
        loop = self._loop()
        loop.call_soon_threadsafe(change)

    def terminate(self) -> None:
        self.server.handle_exit(signal.SIGTERM, None)

    def _loop(self) -> asyncio.AbstractEventLoop:
        return self.server.servers[0].get_loop()


@contextmanager
def running(intake: Intake | None = None, **more: Any) -> Iterator[Running]:
    """`more`: of `Running`, and settings."""
    with bind("127.0.0.1:0") as listening:
        one = Running(listening, intake, **more)
        one.thread.start()
        try:
            wait_until(lambda: one.server.started, within_s=10, what="the server has started")
            yield one
        finally:
            one.server.handle_exit(signal.SIGTERM, None)
            one.server.handle_exit(signal.SIGINT, None)
            one.thread.join(20)


def status_of(connection: HTTPConnection) -> int:
    answered: HTTPResponse = connection.getresponse()
    answered.read()
    connection.close()
    return answered.status
