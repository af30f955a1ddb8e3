"""Whether our children still turn, asked from their own /livez: what a probe of Kubernetes does for a pod.

A child that is stuck says so itself, after its own patience (503). One that is frozen as a whole says nothing.
"""

import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

ASK_EVERY_S: Final = 5.0
ANSWER_WITHIN_S: Final = 3.0
SILENT_TIMES: Final = 12  # in a row: a minute or more, so that a child may take its time to start


class Alive(Protocol):
    @property
    def pid(self) -> int | None: ...


C = TypeVar("C", bound=Alive)


@dataclass(frozen=True, slots=True)
class Stuck:
    pid: int
    why: str


@dataclass(slots=True)
class _Silence:
    pid: int
    times: int = 0


class Liveness(Generic[C]):
    """`addresses`: where each child that is asked listens. In a thread of its own, between `start` and `stop`."""

    def __init__(self, addresses: Mapping[C, str]) -> None:
        self._addresses = dict(addresses)
        self._silences: dict[C, _Silence] = {}
        self._stuck: dict[C, Stuck] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="liveness", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Waits for no answer."""
        self._stopping.set()

    def take_stuck(self) -> dict[C, Stuck]:
        """Children to be killed, if they are still the process that was asked; each is told once."""
        found, self._stuck = self._stuck, {}
        return found

    def look(self) -> None:
        for child, address in self._addresses.items():
            pid = child.pid
            if pid is not None and (why := self._judge(child, pid, answer(address))) is not None:
                self._stuck = {**self._stuck, child: Stuck(pid, why)}

    def _judge(self, child: C, pid: int, said: tuple[int, str] | None) -> str | None:
        silence = self._silences.get(child)
        if said is not None or silence is None or silence.pid != pid:
            silence = self._silences[child] = _Silence(pid)
        if said is not None:
            status, sentence = said
            return sentence if status == 503 else None
        silence.times += 1
        return f"it did not answer {SILENT_TIMES} times" if silence.times >= SILENT_TIMES else None

    def _run(self) -> None:
        while not self._stopping.wait(ASK_EVERY_S):
            self.look()


def answer(address: str) -> tuple[int, str] | None:
    """Status and sentence of /livez; None if there is no answer."""
    try:
        with urllib.request.urlopen(f"http://{address}/livez", timeout=ANSWER_WITHIN_S) as response:
            return response.status, ""
    except urllib.error.HTTPError as error:
        return error.code, error.read(200).decode(errors="replace").strip()
    except OSError:
        return None
