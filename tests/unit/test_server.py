"""The door on a real socket, with a publisher in memory: what uvicorn is made to do, and what it is kept from."""

import gc
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from processor.config import Ingest
from processor.errors import ExitCode, Stop
from processor.ingest import server as server_module
from processor.ingest.server import bind, refuse_open_door
from processor.sample.bad_bodies import bad_bodies
from tests.running_door import JSON, Running, body, running, status_of
from tests.stack import wait_until


def test_one_connection_serves_many_calls_and_the_server_does_not_name_itself() -> None:
    with running() as door:
        connection = door.connect()
        for _ in range(3):
            connection.request("POST", "/call/end", body(), JSON)
            answered = connection.getresponse()
            assert (answered.status, answered.read()) == (200, b"{}")
            assert answered.headers["server"] is None
        connection.close()
        assert len(door.memory.records) == 3


@contextmanager
def garbage() -> Iterator[list[Any]]:
    """Filled, in the end, with what only the collector would have found."""
    found: list[Any] = []
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found += gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_no_request_leaves_a_cycle_behind_as_the_door_collects_garbage_seldom() -> None:
    good = body(), tuple(JSON.items()), 200
    requests = [good, *bad_bodies(datetime.now(UTC), max_body_bytes=65536)]
    assert len(requests) > 30
    with running(max_body_bytes=65536) as door:

        def send_all() -> None:
            for content, headers, status in requests:
                connection = door.connect()
                connection.request("POST", "/call/end", content, dict(headers))
                assert status_of(connection) == status
                assert last_answer(sent_whole(door, content, headers))[0] == status

        send_all()  # what is made once is made now
        with garbage() as found:
            send_all()
    assert found == []


def test_pipelined_calls_are_answered_in_order() -> None:
    with running() as door, door.raw() as client:
        one = b"POST /call/end HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        client.sendall(one % (len(body()), body()) + one % (1, b"{"))
        received = b""
        while b"422" not in received:
            received += client.recv(65536)
        assert received.index(b" 200 ") < received.index(b" 422 ")


HEAD = b"POST /call/end HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
CLOSE = b"connection: close\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"


def with_length(content: bytes) -> bytes:
    return b"content-length: %d\r\n\r\n%b" % (len(content), content)


def in_chunks(content: bytes) -> bytes:
    pieces = (content[at : at + 40] for at in range(0, len(content), 40))
    return b"transfer-encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (*pieces, b""))


def answers_to(door: Running, *pieces: bytes) -> list[int]:
    """Their statuses, when the door has hung up."""
    with door.raw() as client:
        for piece in pieces:
            client.sendall(piece)
        heard = b""
        while piece := client.recv(65536):
            heard += piece
        return [int(answer[:3]) for answer in heard.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("framed", [with_length, in_chunks])
@pytest.mark.parametrize("piece_bytes", [1_000_000, 150, 1])
def test_a_wish_for_another_protocol_is_ignored_and_the_call_and_those_behind_it_are_served(
    framed: Callable[[bytes], bytes], piece_bytes: int
) -> None:
    wishing = HEAD + H2C + framed(body())
    stream = wishing + wishing + HEAD + framed(b"{") + wishing + HEAD + CLOSE + framed(body())
    with running() as door:
        pieces = (stream[at : at + piece_bytes] for at in range(0, len(stream), piece_bytes))
        assert answers_to(door, *pieces) == [200, 200, 422, 200, 200]
        assert len(door.memory.records) == 4


def test_a_wish_for_another_protocol_changes_nothing_of_when_a_connection_ends() -> None:
    behind = HEAD + with_length(body())
    with running() as door:
        closing = HEAD + H2C.replace(b"Upgrade,", b"close, Upgrade,")
        assert answers_to(door, closing + with_length(body()) + behind) == [200]
        assert answers_to(door, closing, with_length(body())) == [200]
        assert answers_to(door, HEAD.replace(b"/1.1", b"/1.0") + H2C + with_length(body()) + behind) == [200]
        assert answers_to(door, HEAD + H2C + CLOSE + with_length(body())) == [200]


@pytest.mark.parametrize("framed", [with_length, in_chunks])
@pytest.mark.parametrize("piece_bytes", [1_000_000, 1])
def test_the_body_behind_a_wish_for_another_protocol_is_a_body_whatever_it_looks_like(
    framed: Callable[[bytes], bytes], piece_bytes: int
) -> None:
    stream = HEAD + H2C + framed(HEAD + with_length(body())) + HEAD + CLOSE + framed(body())
    with running() as door:
        pieces = (stream[at : at + piece_bytes] for at in range(0, len(stream), piece_bytes))
        assert answers_to(door, *pieces) == [422, 200]
        assert len(door.memory.records) == 1


def test_a_request_without_a_body_may_wish_for_another_protocol_too() -> None:
    with running() as door:
        webs = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        assert answers_to(door, webs + HEAD + CLOSE + with_length(body())) == [200, 200]


def test_a_client_that_sends_a_body_far_beyond_the_limit_comes_to_see_the_413() -> None:
    with running(max_body_bytes=10_000) as door:
        connection = door.connect()
        connection.request("POST", "/call/end", b" " * 30_000_000, JSON)
        assert status_of(connection) == 413


def test_a_client_that_asks_first_is_told_413_before_it_sends_anything() -> None:
    with running(max_body_bytes=10_000) as door, door.raw() as client:
        client.sendall(
            b"POST /call/end HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 10001\r\nexpect: 100-continue\r\n\r\n"
        )
        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_what_is_in_flight_is_answered_when_the_server_stops() -> None:
    with running() as door:
        door.acknowledge(now=False)
        waiting, whole = [door.send() for _ in range(5)], [sent_whole(door) for _ in range(5)]
        wait_until(lambda: len(door.memory.records) == 10, within_s=5, what="all are being published")
        door.terminate()
        wait_until(lambda: not accepts(door.port), within_s=5, what="nothing new is accepted")
        assert door.thread.is_alive()
        door.acknowledge(now=True)
        assert [status_of(connection) for connection in waiting] == [200] * 5
        assert [last_answer(client) for client in whole] == [(200, "close")] * 5
        door.thread.join(10)
        assert not door.thread.is_alive()


def test_what_is_never_acknowledged_does_not_hold_the_server_for_ever() -> None:
    with running(ack_timeout_s=2) as door:
        door.acknowledge(now=False)
        waiting, whole = door.send(), sent_whole(door)
        wait_until(lambda: len(door.memory.records) == 2, within_s=5, what="both are being published")
        door.terminate()
        assert status_of(waiting) == 503
        assert last_answer(whole) == (503, "close")
        door.thread.join(10)
        assert not door.thread.is_alive()


def test_a_client_that_leaves_before_its_call_is_acknowledged_leaves_nothing_and_its_call_stays() -> None:
    with running() as door:
        door.acknowledge(now=False)
        with sent_whole(door):
            wait_until(lambda: door.memory.records, within_s=5, what="it is being published")
        wait_until(lambda: not door.server.server_state.connections, within_s=5, what="it has left")
        assert (len(door.memory.records), door.intake.in_flight_requests) == (1, 1)
        door.acknowledge(now=True)
        wait_until(lambda: not door.server.server_state.tasks, within_s=5, what="nothing is waited for")
        assert (door.intake.in_flight_requests, door.intake.in_flight_bytes) == (0, 0)
        assert status_of(door.send()) == 200


def test_before_it_stops_it_is_not_ready_for_a_while_and_serves_on() -> None:
    with running(shutdown_wait_s=60) as door:
        assert not door.server.stopping
        door.terminate()
        assert door.server.stopping
        assert status_of(door.send()) == 200
        door.terminate()  # the second signal does not wait
        door.thread.join(10)
        assert not door.thread.is_alive()


def test_the_event_loop_shows_that_it_turns() -> None:
    with running() as door:
        wait_until(lambda: door.server.seconds_since_tick() < 1, within_s=5, what="a tick")


def test_a_head_without_end_is_431() -> None:
    with running() as door, door.raw() as client:
        client.sendall(b"POST /call/end HTTP/1.1\r\n")
        sent = 0
        with suppress(OSError):  # the server closes while this client still sends
            while sent < 100_000_000:
                client.sendall(b"x-header: " + b"x" * 10_000 + b"\r\n")
                sent += 10_000
        assert sent < 100_000_000
        assert status_of(door.send()) == 200


def test_a_head_that_does_not_arrive_in_time_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HEAD_TIMEOUT_S", 0.1)
    with running() as door, door.raw() as client:
        client.sendall(b"POST /call/end HTTP/1.1\r\nhost")
        assert client.recv(100) == b""


def test_a_connection_that_sends_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "KEEP_ALIVE_S", 0.1)
    with running() as door, door.raw() as client:
        assert client.recv(100) == b""


def test_what_is_not_http_is_400_and_harms_nobody() -> None:
    with running() as door, door.raw() as client:
        client.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")
        assert status_of(door.send()) == 200


def test_a_connection_for_which_there_is_no_room_is_503_and_ends_and_those_that_are_there_are_served() -> None:
    with running(room=1) as door, closing(door.connect()) as first, closing(door.connect()) as second:
        for connection, expected in ((first, 200), (second, 503), (first, 200)):
            connection.request("POST", "/call/end", body(), JSON)
            answered = connection.getresponse()
            answered.read()
            assert answered.status == expected
            assert (answered.headers["retry-after"], answered.will_close) == (
                ("1", True) if expected == 503 else (None, False)
            )
        first.close()
        wait_until(lambda: status_of(door.send()) == 200, within_s=5, what="there is room again")


def test_a_connection_without_room_that_sends_nothing_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "LINGER_S", 0.1)
    with running(room=0) as door, door.raw() as client, suppress(ConnectionResetError):
        assert client.recv(100) == b""


def test_connections_beyond_those_that_can_be_told_are_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "EXCESS", 0)
    with running(room=0) as door, door.raw() as client, suppress(ConnectionResetError):
        assert client.recv(100) == b""


def sent_whole(
    door: Running, content: bytes | None = None, headers: Iterable[tuple[str, str]] = tuple(JSON.items())
) -> socket.socket:
    """A call in one piece, not yet answered; a good one if none is given. `http.client` sends head and body apart."""
    content = body() if content is None else content
    lines = ["POST /call/end HTTP/1.1", "host: x", f"content-length: {len(content)}", *map(": ".join, headers), "", ""]
    client = door.raw()
    client.sendall("\r\n".join(lines).encode() + content)
    return client


def last_answer(client: socket.socket) -> tuple[int, str | None]:
    """Its status, and what becomes of the connection."""
    with client, HTTPResponse(client) as answered:
        answered.begin()
        answered.read()
        return answered.status, answered.headers["connection"]


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


# --- where it may listen


def test_a_port_that_is_taken_is_a_sentence_and_exit_code_3() -> None:
    with bind("127.0.0.1:0") as taken, pytest.raises(Stop, match="INGEST__LISTEN") as caught:
        bind(f"127.0.0.1:{taken.getsockname()[1]}")
    assert caught.value.exit_code == ExitCode.DEPENDENCY


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "127.8.9.10:80", "[::1]:8080", "localhost:8080"])
def test_without_keys_this_machine_may_be_listened_on(listen: str) -> None:
    refuse_open_door(Ingest(listen=listen))


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "[::]:8080", "10.0.0.1:8080", "door.example.com:8080"])
def test_without_keys_nothing_beyond_this_machine_unless_the_operator_insists(listen: str) -> None:
    with pytest.raises(Stop, match="INGEST__AUTH_DISABLED") as caught:
        refuse_open_door(Ingest(listen=listen))
    assert caught.value.exit_code == ExitCode.USAGE
    refuse_open_door(Ingest(listen=listen, auth_disabled=True))
    refuse_open_door(Ingest(listen=listen, keys_file=Path("keys.toml")))
