"""Taking connections: many in a turn of the event loop.

uvloop's own server takes one in a turn for each listening socket, and a turn is long when all connections are busy: in
overload, new ones waited for seconds in the socket's backlog.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import structlog

from processor.ingest.whole import Errand

log = structlog.get_logger(__name__)

TAKEN_A_TURN: Final = 64  # so many cost a few milliseconds, for which those that are there wait
REST_S: Final = 0.1


class Acceptor:
    """Takes connections from `listening`, from now on until `close`. Made in the event loop that serves them.

    `listening` may be shared with other processes: whoever is first takes a connection. It belongs to the caller, who
    must not make it blocking again, as `socket.dup` does: all share that, too, and a process that comes second for a
    connection would then wait in `accept` while all that it serves hangs.
    """

    def __init__(
        self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._protocol = protocol
        self._tls = tls
        self._beginning: set[Any] = set()  # nobody waits for a handshake when the server stops
        self._rest: asyncio.TimerHandle | None = None
        self._failing = False
        listening.setblocking(False)
        self._go_on()

    def close(self) -> None:
        if self._rest is None:
            self._loop.remove_reader(self._listening)
        else:
            self._rest.cancel()

    async def wait_closed(self) -> None:
        """Connections are the server's."""

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def _go_on(self) -> None:
        self._rest = None
        self._loop.add_reader(self._listening, self._take)

    def _take(self) -> None:
        for _ in range(TAKEN_A_TURN):
            try:
                connection, _ = self._listening.accept()
            except BlockingIOError:  # no more, or another process was first
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._pause(error)
                return
            self._failing = False
            Errand(self._begin(connection), self._beginning)

    def _pause(self, error: OSError) -> None:
        """No descriptor, no memory: who comes waits in the backlog, for which the loop must not turn all the time."""
        if not self._failing:
            self._failing = True
            log.error("no connection can be taken: trying again", error=error.strerror)
        self._loop.remove_reader(self._listening)
        self._rest = self._loop.call_later(REST_S, self._go_on)

    async def _begin(self, connection: socket.socket) -> None:
        with suppress(OSError):  # no handshake came of it, and uvloop has closed the connection
            await self._loop.connect_accepted_socket(self._protocol, connection, ssl=self._tls)
