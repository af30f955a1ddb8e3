"""What no sound client sends, over raw sockets: it is refused or hung up on, and others are served."""

import gzip
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest

from processor.ingest.body import MIB, Intake
from tests.running_door import Running, body, running, status_of
from tests.stack import wait_until

HEAD = b"POST /call/end HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
UPGRADE = b"connection: upgrade\r\nupgrade: h2c\r\n"


def said_to(door: Running, *pieces: bytes, is_all: bool = False) -> bytes:
    """What is answered to these bytes until the door hangs up. `is_all`: it is told that nothing more comes."""
    with door.raw() as client:
        for piece in pieces:
            client.sendall(piece)
        if is_all:
            client.shutdown(socket.SHUT_WR)
        heard = b""
        while piece := client.recv(65536):
            heard += piece
        return heard


def assert_unharmed(door: Running, records: int = 0) -> None:
    """Nothing more was published than these, nothing is held, and a good client is served."""
    wait_until(lambda: door.intake.in_flight_requests == 0, within_s=5, what="nothing is in flight")
    assert (door.intake.in_flight_bytes, len(door.memory.records)) == (0, records)
    assert status_of(door.send()) == 200


SMUGGLED: dict[str, Sequence[bytes]] = {
    "two lengths": [HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\n{}"],
    "a length and chunks": [HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
    "a negative length": [HEAD + b"content-length: -1\r\n\r\n"],
    "a length that is no number": [HEAD + b"content-length: ten\r\n\r\n"],
    "a length of more than 64 bits": [HEAD + b"content-length: 99999999999999999999\r\n\r\n"],
    "a chunk whose size is no number": [HEAD + b"transfer-encoding: chunked\r\n\r\nhunter2\r\n"],
    "a chunk whose size has more than 64 bits": [HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n"],
    "a chunk longer than its size": [HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n{}{}\r\n0\r\n\r\n"],
    "a length and chunks, and another protocol": [
        HEAD + UPGRADE + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    ],
    "two lengths, and another protocol": [HEAD + UPGRADE + b"content-length: 5\r\ncontent-length: 6\r\n\r\n{}"],
    "another protocol in a folded header": [HEAD + b"connection: upgrade\r\nupgrade:\r\n h2c\r\n\r\n"],
    "another transfer encoding": [HEAD + b"transfer-encoding: gzip\r\n\r\n{}"],
    "NUL in a header": [HEAD + b"x: a\0b\r\n\r\n"],
    "a header without a name": [HEAD + b": hunter2\r\n\r\n"],
    "a header with a space before the colon": [HEAD + b"content-length : 2\r\n\r\n{}"],
    "a folded header": [HEAD + b"x: a\r\n hunter2\r\n\r\n"],
    "no method": [b"\r\n\r\n\0\0"],
    "a path that is not ASCII": [b"POST /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n"],
    "another protocol": [b"SSH-2.0-OpenSSH_9.9\r\n"],
    "HTTP/2 without asking": [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    "a tunnel": [b"CONNECT hunter2:443 HTTP/1.1\r\nhost: x\r\n\r\n"],
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with running() as door:
        yield door


@pytest.mark.parametrize("name", SMUGGLED)
def test_a_request_that_two_servers_could_read_in_two_ways_is_refused(shared: Running, name: str) -> None:
    shared.memory.records.clear()
    heard = said_to(shared, *SMUGGLED[name], is_all=True)
    assert heard == b"" or heard[9:12] in {b"400", b"404", b"405", b"422"}, heard
    assert b"hunter2" not in heard
    assert_unharmed(shared)


def test_what_follows_a_body_is_no_request_and_ends_the_connection() -> None:
    with running() as door:
        short = b"content-length: %d\r\n\r\n" % (len(body()) - 5)
        heard = said_to(door, HEAD + short + body())
        assert heard.startswith(b"HTTP/1.1 4")
        assert heard.endswith(b"Invalid HTTP request received.")
        assert_unharmed(door)


@pytest.mark.parametrize("sent", [b"", b"{", body()[:-1]])
@pytest.mark.parametrize("length", [b"content-length: 1000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n3e8\r\n"])
def test_a_client_that_leaves_before_its_body_is_complete_leaves_nothing(sent: bytes, length: bytes) -> None:
    with running() as door:
        with door.raw() as client:
            client.sendall(HEAD + length + sent)
        assert_unharmed(door)


def test_a_body_that_comes_byte_by_byte_is_a_body_and_one_that_stops_is_408() -> None:
    with running(Intake(8 * MIB, read_timeout_s=1)) as door:
        whole = HEAD + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body()) + body()
        assert said_to(door, *(whole[at : at + 1] for at in range(len(whole)))).startswith(b"HTTP/1.1 200 ")
        with door.raw() as client:
            client.sendall(HEAD + b"content-length: 1000\r\n\r\n{")
            heard = client.recv(65536)
            assert heard.startswith(b"HTTP/1.1 408 ")
            assert b"connection: close" in heard
        assert_unharmed(door, records=1)


def test_chunks_of_a_byte_are_one_body() -> None:
    with running() as door:
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body())
        heard = said_to(door, HEAD + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert heard.startswith(b"HTTP/1.1 200 ")
        assert_unharmed(door, records=1)


def test_a_refused_body_leaves_its_connection_to_the_next_call() -> None:
    with running() as door:
        bad = HEAD + b"content-length: 1\r\n\r\n{"
        good = HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body()) + body()
        heard = said_to(door, bad, bad, good)
        assert [part[:3] for part in heard.split(b"HTTP/1.1 ")[1:]] == [b"422", b"422", b"200"]
        assert_unharmed(door, records=1)


def test_five_hundred_pipelined_calls_are_answered_one_by_one_in_order() -> None:
    with running() as door:
        one = b"%bcontent-length: %d\r\n\r\n%b"
        calls = [one % (HEAD, len(each), each) for each in [body(), b"{"] * 250]
        with door.raw() as client:
            client.sendall(b"".join(calls))
            heard = b""
            while heard.count(b"HTTP/1.1 ") < 500 or not heard.endswith((b"}", b"{}")):
                heard += client.recv(65536)
        assert [part[:3] for part in heard.split(b"HTTP/1.1 ")[1:]] == [b"200", b"422"] * 250
        assert_unharmed(door, records=250)


def test_a_gzip_bomb_is_413_with_the_limit_it_met() -> None:
    with running() as door:
        bomb = gzip.compress(bytes(200 * MIB))
        heard = said_to(
            door, HEAD + b"connection: close\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb) + bomb
        )
        assert heard.startswith(b"HTTP/1.1 413 ")
        assert b'"limit_bytes":8388608' in heard
        assert_unharmed(door)


def test_thousands_of_headers_are_read_up_to_the_limit_of_a_head() -> None:
    with running() as door:
        few = b"".join(b"x-%d: y\r\n" % i for i in range(4000))
        good = few + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body()) + body()
        assert said_to(door, HEAD + good).startswith(b"HTTP/1.1 200 ")
        with door.raw() as client, suppress(OSError):  # it is hung up on while it still sends
            for _ in range(10):
                client.sendall(few)
            heard = client.recv(65536)
            assert heard == b"" or heard[9:12] in {b"400", b"431"}
        assert_unharmed(door, records=1)
