"""Who takes connections, with a protocol that greets them."""

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
import uvloop
from structlog.testing import capture_logs

from processor.ingest.accept import TAKEN_A_TURN, Acceptor
from processor.ingest.server import bind

WITHIN_S = 10


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.write(b"hello")
        transport.close()


class Refusing(socket.socket):
    """Whose `accept` fails as often as there are `errors`, one after the other."""

    errors: tuple[int, ...] = ()
    asked = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.asked += 1
        if self.errors:
            first, *rest = self.errors
            self.errors = tuple(rest)
            raise OSError(first, os.strerror(first))
        return super().accept()


@pytest.fixture
def listening() -> Iterator[Refusing]:
    with Refusing(fileno=bind("127.0.0.1:0").detach()) as one:
        yield one


async def greeted(listening: socket.socket) -> bytes:
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    with closing(writer):
        return await asyncio.wait_for(reader.read(), WITHIN_S)


async def taken(listening: socket.socket, protocol: type[asyncio.Protocol]) -> bytes:
    """What one client hears of an acceptor that is there for it alone."""
    acceptor = Acceptor(listening, protocol)
    greeting = await greeted(listening)
    acceptor.close()
    return greeting


def test_many_are_taken_in_a_turn_and_not_more_as_others_wait(listening: socket.socket) -> None:
    made: list[Greeter] = []

    def greeter() -> Greeter:
        made.append(Greeter())
        return made[-1]

    async def counted() -> list[int]:
        acceptor = Acceptor(listening, greeter)
        counts = [0]
        while counts[-1] < TAKEN_A_TURN + 8:
            await asyncio.sleep(0)  # a turn
            if len(made) != counts[-1]:
                counts.append(len(made))
        acceptor.close()
        return counts

    with ExitStack() as clients:
        for _ in range(TAKEN_A_TURN + 8):
            clients.enter_context(socket.create_connection(listening.getsockname()))
        counts = uvloop.run(asyncio.wait_for(counted(), WITHIN_S))
    assert counts == [0, TAKEN_A_TURN, TAKEN_A_TURN + 8]


def test_answers_are_sent_without_delay(listening: socket.socket) -> None:
    class Telling(Greeter):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            taken = transport.get_extra_info("socket")
            no_delay.append(bool(taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
            super().connection_made(transport)

    no_delay: list[bool] = []
    uvloop.run(taken(listening, Telling))
    assert no_delay == [True]


def test_two_share_a_socket_and_neither_waits_for_what_the_other_took(listening: Refusing) -> None:
    async def meet() -> list[bytes]:
        with socket.socket(fileno=os.dup(listening.fileno())) as twin:  # as another process has it
            acceptors = [Acceptor(listening, Greeter), Acceptor(twin, Greeter)]
            greetings = [await greeted(listening) for _ in range(20)]
            for acceptor in acceptors:
                acceptor.close()
            return greetings

    assert uvloop.run(meet()) == [b"hello"] * 20


def test_without_descriptors_it_rests_says_so_once_and_takes_who_has_waited(listening: Refusing) -> None:
    listening.errors = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS)

    with capture_logs() as logs:
        assert uvloop.run(taken(listening, Greeter)) == b"hello"
    assert [entry["error"] for entry in logs] == [os.strerror(errno.EMFILE)]
    assert listening.asked == 5  # three in vain, the connection, and that there are no more: no turn was for nothing


def test_a_client_that_left_before_it_was_taken_is_passed_over(listening: Refusing) -> None:
    listening.errors = (errno.ECONNABORTED,)

    with capture_logs() as logs:
        assert uvloop.run(taken(listening, Greeter)) == b"hello"
    assert logs == []


@pytest.mark.parametrize("errors", [(), (errno.EMFILE,)], ids=["taking", "resting"])
def test_after_it_was_closed_none_is_taken(listening: Refusing, errors: tuple[int, ...]) -> None:
    listening.errors = errors

    async def meet() -> int:
        acceptor = Acceptor(listening, Greeter)
        with socket.create_connection(listening.getsockname()):
            while not listening.asked:  # noqa: ASYNC110  # turns are what is waited for
                await asyncio.sleep(0)
            acceptor.close()
        asked = listening.asked
        with socket.create_connection(listening.getsockname()):
            await asyncio.sleep(0.3)  # longer than it rests
        return listening.asked - asked

    assert uvloop.run(asyncio.wait_for(meet(), WITHIN_S)) == 0
