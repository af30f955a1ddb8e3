"""/metrics, /livez and /readyz, over a real socket."""

import errno
import socket
import socketserver
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from processor.admin import FRESH_S, LOOK_EVERY_S, AdminServer, Health, _Page
from processor.errors import ExitCode, Stop

WELL = Health(alive=lambda: None, ready=lambda: None)
ANY_PORT = "127.0.0.1:0"


def get(server: AdminServer, path: str, method: str = "GET", host: str = "127.0.0.1") -> tuple[int, str]:
    connection = HTTPConnection(host, server.port, timeout=5)
    connection.request(method, path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_a_process_that_is_well_says_so() -> None:
    with AdminServer(ANY_PORT, CollectorRegistry(), WELL) as server:
        assert get(server, "/livez") == (200, "ok\n")
        assert get(server, "/readyz?verbose") == (200, "ok\n")
        assert get(server, "/readyz", "HEAD") == (200, "")


def test_a_problem_is_503_with_its_sentence_and_the_two_questions_are_independent() -> None:
    with AdminServer(ANY_PORT, CollectorRegistry(), Health(lambda: None, lambda: "the topic is not seen")) as server:
        assert get(server, "/livez") == (200, "ok\n")
        assert get(server, "/readyz") == (503, "the topic is not seen\n")


def test_metrics_are_those_of_the_registry() -> None:
    registry = CollectorRegistry()
    Counter("answers_total", "Answers.", registry=registry).inc(3)
    with AdminServer(ANY_PORT, registry, WELL) as server:
        status, text = get(server, "/metrics")
    assert status == 200
    assert "answers_total 3.0" in text


def test_other_paths_are_404_and_other_methods_refused() -> None:
    with AdminServer(ANY_PORT, CollectorRegistry(), WELL) as server:
        assert get(server, "/")[0] == 404
        assert get(server, "/livez", "POST")[0] == 501


def test_a_port_that_is_taken_is_a_sentence_and_exit_code_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(Stop, match=f"{listen} is taken .*ADMIN__LISTEN") as caught,
            AdminServer(listen, CollectorRegistry(), WELL),
        ):
            pass
    assert caught.value.exit_code == ExitCode.DEPENDENCY


def test_the_port_is_free_again_afterwards() -> None:
    with AdminServer(ANY_PORT, CollectorRegistry(), WELL) as server:
        port = server.port
    with AdminServer(f"127.0.0.1:{port}", CollectorRegistry(), WELL) as server:
        assert server.port == port


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_it_listens_on_ipv6_too() -> None:
    try:
        server = AdminServer("[::1]:0", CollectorRegistry(), WELL)
        with server:
            assert get(server, "/livez", host="::1") == (200, "ok\n")
    except Stop:
        pytest.skip("no IPv6 loopback here")


def test_without_a_descriptor_for_who_asks_it_tries_again_a_few_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    def get_request(server: socketserver.TCPServer) -> tuple[socket.socket, object]:
        nonlocal tries
        tries += 1
        if tries <= 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(server)

    accept = socketserver.TCPServer.get_request
    monkeypatch.setattr(socketserver.TCPServer, "get_request", get_request)
    with AdminServer(ANY_PORT, CollectorRegistry(), WELL) as server:
        began_s = time.monotonic()
        assert get(server, "/livez") == (200, "ok\n")
        assert time.monotonic() - began_s >= 3 * LOOK_EVERY_S


def test_verbose_readiness_adds_notes_and_changes_no_verdict() -> None:
    health = Health(alive=lambda: None, ready=lambda: None, notes=lambda: ["no broker answers"])
    with AdminServer(ANY_PORT, CollectorRegistry(), health) as server:
        assert get(server, "/readyz") == (200, "ok\n")
        assert get(server, "/readyz?verbose") == (200, "ok\nno broker answers\n")


def test_who_scrapes_often_gets_one_page_for_all() -> None:
    registry, now_s = CollectorRegistry(), [0.0]
    made = Counter("made_total", "Pages.", registry=registry)
    page = _Page(registry, lambda: now_s[0])
    first = page.text("")
    made.inc()
    now_s[0] = FRESH_S - 0.01
    assert page.text("") == first
    assert page.text("application/openmetrics-text; version=1.0.0") != first
    assert page.text("", no_cache=True) != first
    made.inc()
    second = page.text("")
    now_s[0] = 2 * FRESH_S
    assert page.text("") != second


def test_several_scrapes_share_a_connection() -> None:
    with AdminServer(ANY_PORT, CollectorRegistry(), WELL) as server:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
        for _ in range(3):
            connection.request("GET", "/metrics")
            assert connection.getresponse().read() == b""
        connection.close()


def test_the_last_word_of_a_process_waits_for_whoever_scrapes_it() -> None:
    registry = CollectorRegistry()
    ending = Gauge("ending", "1 in the end.", registry=registry)
    with AdminServer(ANY_PORT, registry, WELL) as server, ThreadPoolExecutor(1) as pool:
        get(server, "/metrics")
        ending.set(1)
        waiting = pool.submit(server.wait_for_scrape, 60, lambda: False)
        with pytest.raises(TimeoutError):
            waiting.result(0.2)
        assert "ending 1.0" in get(server, "/metrics")[1]
        waiting.result(10)


def test_nobody_is_waited_for_who_never_scraped_or_when_told_to_stop() -> None:
    with AdminServer(ANY_PORT, CollectorRegistry(), WELL) as server:
        server.wait_for_scrape(60, lambda: False)
        get(server, "/metrics")
        server.wait_for_scrape(60, lambda: True)
