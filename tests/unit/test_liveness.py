"""When a child is taken for stuck."""

from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry

from processor import liveness
from processor.admin import AdminServer, Health
from processor.liveness import SILENT_TIMES, Liveness, Stuck


@dataclass(eq=False)
class Child:
    pid: int | None = 7


def looked(child: Child, address: str, times: int = 1) -> dict[Child, Stuck]:
    asked = Liveness({child: address})
    for _ in range(times):
        asked.look()
    return asked.take_stuck()


@pytest.mark.parametrize("sentence", [None, "the loop has not turned"])
def test_a_child_that_says_so_is_stuck_at_once_and_one_that_turns_is_not(sentence: str | None) -> None:
    child = Child()
    health = Health(alive=lambda: sentence, ready=lambda: "the database is away")
    with AdminServer("127.0.0.1:0", CollectorRegistry(), health) as server:
        found = looked(child, f"127.0.0.1:{server.port}")
    assert found == ({child: Stuck(7, sentence)} if sentence else {})


def test_a_child_that_says_nothing_is_stuck_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "answer", lambda _: None)
    child = Child()
    assert looked(child, "", SILENT_TIMES - 1) == {}
    assert looked(child, "", SILENT_TIMES)[child].pid == 7
    assert SILENT_TIMES * liveness.ASK_EVERY_S >= 60


def test_silence_is_counted_anew_after_an_answer_and_for_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child()
    asked = Liveness({child: ""})

    def be_silent_nearly_too_long() -> None:
        monkeypatch.setattr(liveness, "answer", lambda _: None)
        for _ in range(SILENT_TIMES - 1):
            asked.look()

    be_silent_nearly_too_long()
    monkeypatch.setattr(liveness, "answer", lambda _: (200, ""))
    asked.look()
    be_silent_nearly_too_long()
    child.pid = 8
    asked.look()
    assert asked.take_stuck() == {}


def test_a_child_that_does_not_run_is_not_asked() -> None:
    assert looked(Child(None), "127.0.0.1:1", SILENT_TIMES) == {}
