"""A bad deploy, played through; and what an operator sees of dead letters."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from processor.embedded.ports import LOOPBACK, free_port
from processor.errors import ExitCode
from processor.sample.traces import MODELS
from tests.laws import assert_nothing_is_lost, assert_totals_equal
from tests.parallel import beside_others
from tests.produce import Calls
from tests.stack import Installation, Process

pytestmark = pytest.mark.stack
SCRIPT = Path(__file__).parents[1] / "rejecting_worker.py"


class BadlyDeployed(Process):
    """A worker that rejects all calls which name one of these models."""

    models: Sequence[str] = ()

    def launch(self) -> None:
        self._command = [sys.executable, str(SCRIPT), *self.models]
        super().launch()


def start_bad_worker(installation: Installation, *models: str, **settings: str) -> Process:
    worker = BadlyDeployed(
        ["worker"],
        folder=installation.folder,
        name=f"bad-{len(installation.processes)}",
        environment=installation.environment(ADMIN__LISTEN=f"{LOOPBACK}:{free_port()}", **settings),
    )
    worker.models = models
    worker.launch()
    installation.processes.append(worker)
    return worker


def listed(installation: Installation, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(installation.output("dead-letters", "list", "--json", *options))
    return found


def replay(installation: Installation, *options: str) -> int:
    """How many were sent."""
    said = installation.output("dead-letters", "replay", *options)
    match = re.search(r"sent (\d+) records", said)
    assert match, said
    return int(match[1])


@beside_others()
def test_a_bad_deploy_ends_at_the_breaker_and_replay_brings_every_call_back_once(installation: Installation) -> None:
    calls = Calls(installation, seed=1)
    calls.produce(150)
    bad = start_bad_worker(installation, "gpt-4o", WORKER__BREAKER_RUN="0", WORKER__BREAKER_SHARE="0")
    dead_lettered = installation.wait_until_counted().dead_lettered
    assert dead_lettered > 20
    bad.stop()
    calls.produce(400)
    bad = start_bad_worker(installation, *MODELS, WORKER__BREAKER_RUN="10", WORKER__BREAKER_SHARE="0")
    code, said = bad.ended()
    assert (code, "the breaker tripped" in said) == (ExitCode.PROTECT_NUMBERS, True)

    # the fix is deployed
    assert "resumed" in installation.output("resume")
    good = installation.start_worker()
    installation.wait_until_counted()
    letters = sum(one["records"] for one in listed(installation)["counts"])
    assert letters >= dead_lettered
    assert f"would send {letters:,} records" in installation.output("dead-letters", "replay", "--dry-run")
    assert replay(installation, "--limit", "5") == 5
    assert replay(installation) == letters
    installation.wait_until_counted()
    assert_totals_equal(installation, calls.expected())
    assert_nothing_is_lost(installation)

    assert replay(installation) == letters
    counters = installation.wait_until_counted()
    assert counters.counted == calls.expected().calls
    assert_totals_equal(installation, calls.expected())
    assert_nothing_is_lost(installation)
    verified = installation.run("verify")
    assert (verified.returncode, verified.stderr) == (ExitCode.OK, ""), verified.stdout
    good.stop()


@beside_others()
def test_what_fails_again_is_still_one_letter_and_is_left_alone_after_three_attempts(
    installation: Installation,
) -> None:
    Calls(installation, seed=2).produce(20)
    installation.publish([b"no call", b"\xc3\x01short", None], headers={"traceparent": b"00-1"})
    installation.start_worker()
    installation.wait_until_counted()
    for attempt in (1, 2, 3):
        newest = listed(installation)["newest"]
        assert [one["attempt"] for one in newest] == [attempt] * 2
        assert sum(one["records"] for one in listed(installation, "--reason", "undecodable")["counts"]) == 2
        assert replay(installation, "--reason", "undecodable") == (2 if attempt < 3 else 0)
        installation.wait_until_counted()
    assert_nothing_is_lost(installation)


@beside_others()
def test_a_letter_shows_its_headers_its_bytes_and_the_call_as_far_as_it_can_be_read(
    installation: Installation,
) -> None:
    calls = Calls(installation, seed=3)
    calls.produce(1)
    [whole] = [record.value() for record in installation.records(installation.topic)][:1]
    assert whole is not None
    installation.publish([whole[:60]], headers={"traceparent": b"00-\x1b[31m"})
    installation.start_worker()
    installation.wait_until_counted()
    text = installation.output("dead-letters", "list")
    assert "undecodable" in text
    [letter] = [one["letter"] for one in listed(installation)["newest"]]
    shown = installation.output("dead-letters", "show", letter)
    assert "call-processor.reason: undecodable" in shown
    assert f"value: 60 bytes\n  00000000  {whole[:32].hex(' ')}" in shown
    assert '"project_id": ' in shown
    assert "cannot be read further: undecodable" in shown
    assert "\x1b" not in shown
    missing = installation.run("dead-letters", "show", "0/99")
    assert (missing.returncode, "there is no dead letter 0/99" in missing.stderr) == (ExitCode.USAGE, True)
