"""How many connections the door may hold, by the limit of open files that it was started with."""

import resource

import pytest

from processor.errors import ExitCode, Stop
from processor.ingest.room import EXCESS, LEAST_FILES, OTHER_FILES, WANTED_FILES, make_room

NONE = resource.RLIM_INFINITY
MOST = WANTED_FILES - OTHER_FILES - EXCESS


class Limits:
    """Of this process, without changing them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, kernel: int = 10**6) -> None:
        self.now = soft, hard
        self._kernel = kernel
        monkeypatch.setattr(resource, "getrlimit", lambda _: self.now)
        monkeypatch.setattr(resource, "setrlimit", lambda _, limits: self._set(limits))

    def _set(self, limits: tuple[int, int]) -> None:
        if limits[0] > self._kernel:
            raise ValueError("current limit exceeds maximum limit")
        self.now = limits


@pytest.mark.parametrize(
    ("soft", "hard", "after", "room"),
    [
        (1024, 524_288, WANTED_FILES, MOST),
        (1024, NONE, WANTED_FILES, MOST),
        (1024, 4096, 4096, 4096 - OTHER_FILES - EXCESS),
        (1_000_000, 1_000_000, 1_000_000, MOST),
        (NONE, NONE, NONE, MOST),
        (LEAST_FILES, LEAST_FILES, LEAST_FILES, LEAST_FILES - OTHER_FILES - EXCESS),
    ],
)
def test_the_limit_is_raised_as_far_as_is_wanted_and_allowed_and_others_keep_their_files(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, after: int, room: int
) -> None:
    limits = Limits(monkeypatch, soft, hard)
    assert make_room() == room
    assert limits.now == (after, hard)


def test_a_limit_that_the_kernel_does_not_raise_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    Limits(monkeypatch, 1024, NONE, kernel=10_240)
    assert make_room() == 1024 - OTHER_FILES - EXCESS


def test_a_limit_too_low_to_serve_with_is_a_sentence_and_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    Limits(monkeypatch, 256, LEAST_FILES - 1)
    with pytest.raises(Stop, match="ulimit -n") as caught:
        make_room()
    assert caught.value.exit_code == ExitCode.USAGE
