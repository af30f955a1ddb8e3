"""A TCP proxy between one of our processes and a server, which a test can cut, silence, and let go on."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Final, Self

from processor.embedded.ports import LOOPBACK, free_port

CHUNK: Final = 65536
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER without a wait: closing sends RST, not FIN
ANSWER_WITHIN_S: Final = 10


class Proxy:
    """Forwards connections from an address of its own to `target` ("host:port"). A context manager.

    `cut`: as if the server's process had died: connections are reset, new ones refused.
    `hang`: as if the network swallowed everything: no connection ends and none is refused, nothing arrives.
    `resume`: forwards, again. What was sent while it hung arrives now, late, and the ends of connections too.
    `lose_answer`: once, the connection is reset when the server has answered a message that contains this request:
    what the client asked for is done, and it does not learn so. `answers_lost` counts them.
    `delay_s`: how long every answer is kept.

    Each returns when it is done, may follow any other, and may be called from any thread.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.address = f"{LOOPBACK}:{free_port()}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._forwarding = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._request: bytes | None = None
        self._losing: set[asyncio.StreamWriter] = set()
        self.answers_lost = 0
        self.delay_s = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        self.resume()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        self._do(self._cut())

    def hang(self) -> None:
        self._do(self._hang())

    def resume(self) -> None:
        self._do(self._resume())

    def lose_answer(self, request: bytes) -> None:
        self._request = request

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWER_WITHIN_S)

    async def _cut(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            for listening in server.sockets:
                self._loop.remove_reader(listening.fileno())
            # A connection that is on its way in when its server is closed is forgotten, open: two turns bring it in.
            for _ in range(2):
                await asyncio.sleep(0)
            server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _hang(self) -> None:
        self._forwarding.clear()
        await self._listen()

    async def _resume(self) -> None:
        self._forwarding.set()
        await self._listen()

    async def _listen(self) -> None:
        if self._server is None:
            host, port = self.address.split(":")
            self._server = await asyncio.start_server(self._accept, host, int(port))

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # it was on its way in when we cut
            _reset_if_open(writer)
            return
        connection = self._loop.create_task(self._connect(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        connection.add_done_callback(lambda _: _reset_if_open(writer))  # also if it was cut before it began

    async def _connect(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            await self._forwarding.wait()
            host, port = self.target.split(":")
            from_server, to_server = await asyncio.open_connection(host, int(port))
            try:
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(from_client, to_server, to_client))
                    pumps.create_task(self._pump(from_server, to_client, to_client))
                to_server.close()
                to_client.close()
            finally:
                _reset_if_open(to_server)
        except* OSError:  # the server does not answer, or an end was reset: so is the other
            pass
        finally:
            self._losing.discard(to_client)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        """Until `source` ends; its end is passed on, too."""
        while data := await source.read(CHUNK):
            await self._forwarding.wait()
            if sink is client and self.delay_s:
                await asyncio.sleep(self.delay_s)
            if sink is client and client in self._losing:
                self.answers_lost += 1
                raise ConnectionResetError("told to lose this answer")
            if sink is not client and self._request is not None and self._request in data:
                self._request = None
                self._losing.add(client)
            sink.write(data)
            await sink.drain()
        await self._forwarding.wait()
        sink.write_eof()


def _reset_if_open(writer: asyncio.StreamWriter) -> None:
    if not writer.is_closing():
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
