"""A record that takes the worker down every time: it is named, the supervisor gives up, and nothing is skipped."""

import json
from pathlib import Path

import pytest

from processor.errors import ExitCode
from tests.laws import assert_each_call_counted_once
from tests.produce import Calls
from tests.stack import Installation, wait_until

pytestmark = pytest.mark.stack
GIVEN_UP_S = 60.0  # five deaths of one child, at most 60 s apart


def test_a_record_that_kills_every_worker_is_named_and_counted_once_the_defect_is_mended(
    installation: Installation,
) -> None:
    calls = Calls(installation, 1)
    calls.produce(50)
    calls.poison(partition=0)
    at = installation.end_offsets(installation.topic)[0] - 1
    installation.variables["PYTHONPATH"] = str(Path(__file__).parents[1] / "poison")
    workers = installation.start("worker", "--processes", "2")
    wait_until(lambda: workers.poll() is not None, within_s=GIVEN_UP_S, what="the supervisor has given up")
    said = workers.log.read_text()
    assert workers.poll() == ExitCode.DEPENDENCY
    assert "it died 5 times within 60 s" in said
    named = [json.loads(line) for line in said.splitlines() if "cannot decode this record" in line]
    assert {(each["topic"], each["partition"], each["offset"]) for each in named} == {(installation.topic, 0, at)}
    assert "a client's words" not in said
    assert installation.next_offsets()[0] <= at

    del installation.variables["PYTHONPATH"]
    installation.start_worker()
    assert_each_call_counted_once(installation, calls.expected())
