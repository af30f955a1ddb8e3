"""A worker that dies, or freezes for longer than its session: others go on soon, and what it does late does no harm."""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from processor.cli.worker import STUCK_AFTER_S
from processor.embedded.ports import LOOPBACK, free_port
from processor.kafka.properties import LEAST_POLL_INTERVAL_MS
from tests.group import EVENT, SESSION_TIMEOUT_S, Group, member, metric
from tests.laws import assert_each_call_counted_once
from tests.parallel import Run, Runs, beside_others, selected_runs, under_both_protocols
from tests.produce import Calls, streaming
from tests.stack import (
    START_TIMEOUT_S,
    Installation,
    Process,
    Servers,
    assert_in_time,
    frozen,
    http_status,
    wait_until,
    wait_until_ready,
)

pytestmark = pytest.mark.stack
SCRIPT = Path(__file__).parents[1] / "frozen_worker.py"
PATIENCE_S = 30.0  # longer than any bound: what is too slow is measured, not cut off


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with selected_runs(request, servers, tmp_path_factory) as runs:
        yield runs


def killed(installation: Installation, protocol: str) -> float:
    calls = Calls(installation, seed=1)
    one, _ = two_workers(installation, protocol)
    with streaming(calls):
        installation.wait_until_counting()
        one.kill()
        seconds = wait_until_taken_over(installation)
    assert_each_call_counted_once(installation, calls.expected())
    return seconds


def frozen_while_reading(installation: Installation, protocol: str) -> float:
    calls = Calls(installation, seed=2)
    one, two = two_workers(installation, protocol)
    with streaming(calls):
        installation.wait_until_counting()
        with frozen(one):
            seconds = wait_until_taken_over(installation)
        wait_until_both_own(installation)
        two.stop()
        installation.wait_until_counting()
    assert_each_call_counted_once(installation, calls.expected())
    return seconds


def frozen_for_less_than_its_session(installation: Installation, protocol: str) -> float:
    calls = Calls(installation, seed=7)
    workers = two_workers(installation, protocol)
    with streaming(calls):
        installation.wait_until_counting()
        before = [len(EVENT.findall(worker.log.read_text())) for worker in workers]
        began_s = time.monotonic()
        with frozen(workers[0]):
            wait_until(lambda: time.monotonic() - began_s > SESSION_TIMEOUT_S / 2, within_s=10, what="half a session")
        installation.wait_until_counting()
    assert_each_call_counted_once(installation, calls.expected())
    assert [len(EVENT.findall(worker.log.read_text())) for worker in workers] == before, "a partition has moved"
    return 0.0


def frozen_before_its_transaction(installation: Installation, protocol: str) -> float:
    return frozen_in_its_first_write(installation, protocol, "before", "fenced_total")


def frozen_inside_its_transaction(installation: Installation, protocol: str) -> float:
    return frozen_in_its_first_write(installation, protocol, "inside", "unavailable_total")


def frozen_in_its_first_write(installation: Installation, protocol: str, moment: str, refusal: str) -> float:
    """`refusal`: the metric that tells that the late write was refused."""
    calls = Calls(installation, seed=3)
    file = installation.folder / "stopped"
    one, _ = two_workers(installation, protocol, (moment, file))
    with streaming(calls):
        wait_until(file.exists, within_s=PATIENCE_S, what="the first write has stopped in its middle")
        with frozen(one):
            file.unlink()
            seconds = wait_until_taken_over(installation)
        wait_until(lambda: metric(one, refusal) >= 1, within_s=PATIENCE_S, what=f"{refusal} tells of the late write")
        wait_until_both_own(installation)
    assert_each_call_counted_once(installation, calls.expected())
    return seconds


@pytest.mark.long
@pytest.mark.timeout(400)
@beside_others()
def test_a_worker_whose_loop_is_stuck_is_told_by_liveness_and_replaced_when_its_poll_interval_is_over(
    installation: Installation,
) -> None:
    """Its client goes on telling the group that it lives. Kubernetes would have started it again long before."""
    calls, file = Calls(installation, seed=8), installation.folder / "stopped"
    stuck, _ = two_workers(installation, "classic", ("before", file))
    with streaming(calls):
        wait_until(file.exists, within_s=PATIENCE_S, what="the first write has stopped")
        began_s = time.monotonic()
        wait_until(lambda: http_status(stuck.admin, "/livez") == 503, within_s=STUCK_AFTER_S + 5, what="it is stuck")
        assert time.monotonic() - began_s >= STUCK_AFTER_S - 5  # the turn had begun a moment before
        installation.wait_until_counting(LEAST_POLL_INTERVAL_MS / 1000 + PATIENCE_S)
        assert time.monotonic() - began_s >= LEAST_POLL_INTERVAL_MS / 1000 - 5
        file.unlink()
        wait_until_both_own(installation)  # its write is over its deadline, and its partitions have gone meanwhile
        assert http_status(stuck.admin, "/livez") == 200
    assert_each_call_counted_once(installation, calls.expected())


@under_both_protocols(frozen_while_reading)
def test_a_worker_that_freezes_while_it_reads_is_replaced_and_takes_part_again_afterwards(runs: Runs, run: Run) -> None:
    assert_in_time(runs[run].result(), SESSION_TIMEOUT_S + 3)


@under_both_protocols(frozen_for_less_than_its_session)
def test_a_worker_that_freezes_for_less_than_its_session_keeps_its_partitions(runs: Runs, run: Run) -> None:
    runs[run].result()


@under_both_protocols(frozen_before_its_transaction)
def test_a_worker_that_freezes_with_records_in_its_hands_is_replaced_and_writes_nothing_late(
    runs: Runs, run: Run
) -> None:
    assert_in_time(runs[run].result(), SESSION_TIMEOUT_S + 3)


@under_both_protocols(frozen_inside_its_transaction)
def test_a_worker_that_freezes_inside_copy_with_the_row_locked_is_replaced_and_its_transaction_is_gone(
    runs: Runs, run: Run
) -> None:
    assert_in_time(runs[run].result(), SESSION_TIMEOUT_S + 6)


@under_both_protocols(killed)
def test_a_killed_worker_is_replaced_when_its_session_has_timed_out(runs: Runs, run: Run) -> None:
    assert_in_time(runs[run].result(), SESSION_TIMEOUT_S + 3)


class FrozenWorker(Process):
    def __init__(self, moment: str, file: Path, *, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__([], folder=folder, name="worker-that-stops", environment=environment)
        self._command = [sys.executable, "-P", str(SCRIPT), moment, str(file)]


def two_workers(installation: Installation, protocol: str, stops: tuple[str, Path] | None = None) -> list[Process]:
    """Members of the group with half of the partitions each. `stops`: where the first one stops, and its file."""
    first, second = (member(installation.folder, protocol, name) for name in ("first", "second"))
    workers = [
        installation.start_worker(**first) if stops is None else start_frozen_worker(installation, stops, first),
        installation.start_worker(**second),
    ]
    wait_until_ready(*workers)
    wait_until_both_own(installation)
    return workers


def start_frozen_worker(installation: Installation, stops: tuple[str, Path], settings: dict[str, str]) -> Process:
    environment = installation.environment(ADMIN__LISTEN=f"{LOOPBACK}:{free_port()}", **settings)
    worker = FrozenWorker(*stops, folder=installation.folder, environment=environment)
    worker.launch()
    installation.processes.append(worker)
    return worker


def wait_until_both_own(installation: Installation) -> None:
    owners = Group(installation).owners
    wait_until(
        lambda: sorted(Counter(owners().values()).values()) == [2, 2],
        within_s=START_TIMEOUT_S,
        what="two workers have taken half of the partitions each",
    )


def wait_until_taken_over(installation: Installation) -> float:
    """Seconds until records of every partition are counted that were produced after this moment."""
    began_s = time.monotonic()
    installation.wait_until_counting(PATIENCE_S)
    return time.monotonic() - began_s
