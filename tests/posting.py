"""Clients of a door that runs as a process, and what they make of its answers."""

import json
import socket
import threading
import time
import uuid
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from processor.codec.rows import decode
from tests.stack import Installation, wait_until


@dataclass(frozen=True, slots=True)
class Answer:
    """`status`: None if the connection broke or could not be made."""

    call_id: str
    status: int | None
    retry_after: str | None
    seconds: float


class Client:
    """One connection, kept from one call to the next; never opened again."""

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
        self._connection.auto_open = 0
        with suppress(OSError):
            self._connection.connect()

    def post(self, project_id: str = "acme/chat", **content: object) -> Answer:
        """One call with an id of its own."""
        call_id = uuid.uuid4().hex
        end = {"project_id": project_id, "id": call_id, "ended_at": datetime.now(UTC).isoformat(), "summary": {}}
        body = json.dumps({"end": {**end, **content}})
        began_s = time.monotonic()
        try:
            self._connection.request("POST", "/call/end", body, {"content-type": "application/json"})
            answered = self._connection.getresponse()
            answered.read()
            return Answer(call_id, answered.status, answered.headers["retry-after"], time.monotonic() - began_s)
        except (OSError, HTTPException):
            return Answer(call_id, None, None, time.monotonic() - began_s)

    def is_hung_up_on(self) -> bool:
        """Before it has sent anything."""
        try:
            return not self._connection.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        self._connection.close()


def post(url: str, project_id: str = "acme/chat", **content: object) -> Answer:
    """One call, on a connection of its own."""
    with closing(Client(url)) as client:
        return client.post(project_id, **content)


class Load:
    """Clients that post one call after the other, of some projects, until the end of the `with` block."""

    def __init__(self, url: str, clients: int = 6) -> None:
        self.answers: list[Answer] = []
        self._url = url
        self._stop = threading.Event()
        self.threads = [threading.Thread(target=self._post, args=(f"acme/{i}",)) for i in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Returns when the last request is answered."""
        self._stop.set()
        for thread in self.threads:
            thread.join()

    def wait_for(self, status: int, count: int, within_s: float = 30) -> None:
        """So many more answers with this status."""
        goal = self._with(status) + count
        wait_until(lambda: self._with(status) >= goal, within_s=within_s, what=f"{count} more answers {status}")

    def ids(self, status: int) -> set[str]:
        return {answer.call_id for answer in self.answers if answer.status == status}

    def _with(self, status: int) -> int:
        return sum(answer.status == status for answer in self.answers)

    def _post(self, project_id: str) -> None:
        while not self._stop.is_set():
            self.answers.append(post(self._url, project_id))


def published(installation: Installation) -> list[str]:
    """The ids of the calls on the topic; their keys are their projects."""
    ids = []
    for record in installation.records(installation.topic):
        end = decode(record.value() or b"").end
        assert record.key() == end.project_id.encode()
        ids.append(end.id)
    return ids


def wait_until_it_answers(url: str, status: int, within_s: float = 15) -> None:
    wait_until(lambda: post(url).status == status, within_s=within_s, what=f"the door answers {status}")
