"""The proxy of the tests: what a test may rely on when it cuts, silences and resumes a connection."""

import gc
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from processor.embedded.ports import LOOPBACK
from tests.proxy import Proxy
from tests.stack import wait_until

SOON_S = 5.0
SILENCE_S = 0.2


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """In front of a server that answers each message with itself in capitals."""
    with socket.create_server((LOOPBACK, 0)) as server:
        threading.Thread(target=serve, args=[server], daemon=True).start()
        with Proxy(f"{LOOPBACK}:{server.getsockname()[1]}") as proxy:
            yield proxy
        server.shutdown(socket.SHUT_RDWR)


def serve(server: socket.socket) -> None:
    try:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=answer, args=[connection], daemon=True).start()
    except OSError:
        return


def answer(connection: socket.socket) -> None:
    try:
        with connection:
            while message := connection.recv(1024):
                connection.sendall(message.upper())
    except ConnectionError:
        return


def connected(proxy: Proxy) -> socket.socket:
    host, port = proxy.address.split(":")
    return socket.create_connection((host, int(port)), timeout=SOON_S)


def ask(connection: socket.socket, message: bytes) -> bytes:
    connection.sendall(message)
    return connection.recv(1024)


def is_silent(connection: socket.socket) -> bool:
    connection.settimeout(SILENCE_S)
    try:
        connection.recv(1024)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(SOON_S)
    return False


def test_what_is_sent_arrives_and_so_does_the_end(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        assert ask(connection, b"hello") == b"HELLO"
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        assert (connection.recv(1024), connection.recv(1024)) == (b"BYE", b"")


def test_a_cut_resets_connections_and_refuses_new_ones_until_it_is_mended(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        assert ask(connection, b"hello") == b"HELLO"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1024)
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)
    proxy.resume()
    with connected(proxy) as connection:
        assert ask(connection, b"again") == b"AGAIN"


def test_while_it_hangs_nothing_arrives_and_nothing_ends_and_later_all_of_it_does(proxy: Proxy) -> None:
    with connected(proxy) as old:
        assert ask(old, b"hello") == b"HELLO"
        proxy.hang()
        with connected(proxy) as new:
            for connection in (old, new):
                connection.sendall(b"late")
                assert is_silent(connection)
            proxy.resume()
            assert (old.recv(1024), new.recv(1024)) == (b"LATE", b"LATE")


def test_an_answer_is_lost_once_when_the_server_has_given_it(proxy: Proxy) -> None:
    proxy.lose_answer(b"now")
    with connected(proxy) as connection:
        assert ask(connection, b"hello") == b"HELLO"
        with pytest.raises(ConnectionResetError):
            ask(connection, b"do it now")
    assert proxy.answers_lost == 1
    with connected(proxy) as connection:
        assert ask(connection, b"do it now") == b"DO IT NOW"


def test_a_cut_ends_a_silence(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        assert ask(connection, b"hello") == b"HELLO"
        proxy.hang()
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1024)


def test_a_cut_leaves_no_connection_open_that_is_on_its_way_in(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", left.append)
    for _ in range(100):
        with Proxy(f"{LOOPBACK}:1") as proxy, ExitStack() as connecting:
            host, port = proxy.address.split(":")
            for _ in range(5):
                connection = connecting.enter_context(socket.socket())
                connection.setblocking(False)
                connection.connect_ex((host, int(port)))
            proxy.cut()
    gc.collect()
    assert left == []


def test_where_the_server_is_away_a_connection_ends() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        target = f"{LOOPBACK}:{server.getsockname()[1]}"
    with Proxy(target) as proxy:
        try:
            with connected(proxy) as connection:
                wait_until(lambda: ended(connection), within_s=SOON_S, what="the connection has ended")
        except ConnectionError:  # it has ended before it was begun
            return


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1024) == b""
    except ConnectionResetError:
        return True
