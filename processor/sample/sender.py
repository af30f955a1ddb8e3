"""Sends posts as the SDK does: again after 429, 5xx and a broken connection, never after another refusal.

Threads and http.client: the demo runs without the tools for development, so without an HTTP library, and a few
thousand requests a second are enough to keep the service at work on the same machine.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import urlsplit

from processor.sample.posts import Post

ATTEMPTS = 9  # the SDK's, for one call
TIMEOUT_S = 30.0  # the SDK's
LONGEST_PAUSE_S = 2.0  # the SDK honours Retry-After up to 60 s; nobody waits that long for a sample


@dataclass(frozen=True, slots=True)
class Answer:
    post: Post
    status: int | None  # None: no attempt got an answer
    attempts: int


def send(
    url: str,
    posts: Iterable[Post],
    *,
    connections: int = 8,
    attempts: int = ATTEMPTS,
    on_answer: Callable[[Answer], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> list[Answer]:
    """Sends to `url` (the door's address, without path) and returns the answers in the order in which they came.

    A post waits for the answer to the one before it that names the same call: so the first on the topic is known.
    `on_answer` is called from many threads, one call at a time. Once `stop` is set, what has no answer gets none.
    """
    client = _Client(url, attempts, stop or threading.Event())
    answers: list[Answer] = []
    lock = threading.Lock()

    def answer(post: Post, before: Future[None] | None) -> None:
        if before is not None:
            before.result()  # was taken up earlier, so it always ends
        got = client.post(post)
        with lock:
            answers.append(got)
            on_answer(got)

    latest: dict[tuple[str, str], Future[None]] = {}
    futures: list[Future[None]] = []
    with ThreadPoolExecutor(connections) as pool:
        for post in posts:
            future = pool.submit(answer, post, latest.get(post.call) if post.call else None)
            futures.append(future)
            if post.call:
                latest[post.call] = future
    for future in futures:
        future.result()
    client.close()
    return answers


class _Client:
    """One kept connection a thread."""

    def __init__(self, url: str, attempts: int, stop: threading.Event) -> None:
        self._address = urlsplit(url)
        self._attempts = attempts
        self._stop = stop
        self._local = threading.local()
        self._all: list[HTTPConnection] = []

    def close(self) -> None:
        for connection in self._all:
            connection.close()

    def post(self, post: Post) -> Answer:
        status: int | None = None
        attempt = 0
        while attempt < self._attempts and not self._stop.is_set():
            attempt += 1
            pause_s = 0.05 * 2**attempt
            try:
                response = self._once(post)
            except (OSError, HTTPException):
                self._connection().close()  # opens again by itself
            else:
                status = response.status
                if status != 429 and status < 500:
                    break
                pause_s = float(response.headers.get("retry-after") or pause_s)
            if attempt < self._attempts:
                self._stop.wait(min(LONGEST_PAUSE_S, pause_s))
        return Answer(post, status, attempt)

    def _once(self, post: Post) -> HTTPResponse:
        connection = self._connection()
        connection.request("POST", "/call/end", body=post.body, headers=dict(post.headers))
        response = connection.getresponse()
        response.read()
        return response

    def _connection(self) -> HTTPConnection:
        if not hasattr(self._local, "connection"):
            self._local.connection = HTTPConnection(
                self._address.hostname or "", self._address.port or 80, timeout=TIMEOUT_S
            )
            self._all.append(self._local.connection)
        connection: HTTPConnection = self._local.connection
        return connection
