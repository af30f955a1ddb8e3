"""Scenarios that mostly wait (for a session to time out, for a deadline to pass): several run at a time."""

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.group import PROTOCOLS
from tests.stack import Installation, Servers, installed

AT_A_TIME: Final = 6

Scenario = Callable[[Installation, str], float]  # an installation, a group protocol; what was measured, in seconds


@dataclass(frozen=True, slots=True)
class Run:
    scenario: Scenario
    protocol: str

    def __str__(self) -> str:
        return self.protocol


Runs = dict[Run, Future[float]]


def under_both_protocols(scenario: Scenario) -> pytest.MarkDecorator:
    """For a test that asks the fixture `runs` for the result of its `run`."""
    return pytest.mark.parametrize("run", [Run(scenario, protocol) for protocol in PROTOCOLS], ids=str)


def beside_others(*cases: Any) -> Callable[[Callable[..., None]], Callable[[Runs, Run], None]]:
    """A test of an installation, and of each of these cases, that runs while others of its module wait.

    They need the fixture `runs`, as those under both protocols.
    """

    def decorate(test: Callable[..., None]) -> Callable[[Runs, Run], None]:
        def result(runs: Runs, run: Run) -> None:
            runs[run].result()

        result.__name__, result.__doc__ = test.__name__, test.__doc__
        runs = [Run(_timed(test, [case]), case.__name__) for case in cases] or [Run(_timed(test, []), "classic")]
        return pytest.mark.parametrize("run", runs, ids=str)(result)

    return decorate


def _timed(test: Callable[..., None], arguments: list[Any]) -> Scenario:
    def scenario(installation: Installation, _: str) -> float:
        began_s = time.monotonic()
        test(installation, *arguments)
        return time.monotonic() - began_s

    scenario.__name__ = test.__name__
    return scenario


@contextmanager
def selected_runs(request: pytest.FixtureRequest, servers: Servers, folders: pytest.TempPathFactory) -> Iterator[Runs]:
    """The runs of this module's selected tests, begun in their order (so let the longest be first); what they measured
    is printed in the end."""

    def begin(run: Run) -> float:
        with installed(servers, folders.mktemp("run")) as installation:
            try:
                return run.scenario(installation, run.protocol)
            except BaseException as error:
                # A failure is kept to the end, with its frames: in them would live clients of Kafka, and those whose
                # broker has gone can wait in their destructor for ever.
                traceback.clear_frames(error.__traceback__)
                raise

    tests = [item for item in request.session.items if item.path == request.path]
    parameters = [item.callspec.params for item in tests if hasattr(item, "callspec")]
    runs = [given["run"] for given in parameters if "run" in given]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        begun = {run: pool.submit(begin, run) for run in runs}
        yield begun
    for run, future in begun.items():
        if not future.exception():
            tell(request, f"{run.scenario.__name__}, {run.protocol}: {future.result():.1f} s")


def tell(request: pytest.FixtureRequest, line: str) -> None:
    """What was measured, on the terminal, whether tests pass or not; from a process of pytest-xdist too."""
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        sys.stderr.write(f"\n{line}")
        sys.stderr.flush()
