"""A worker whose loop stands still: it is found, killed by its supervisor, and nothing is counted twice or lost."""

from pathlib import Path

import pytest

from tests.laws import assert_each_call_counted_once
from tests.produce import Calls
from tests.stack import Installation, wait_until

pytestmark = pytest.mark.stack
FOUND_S = 30.0


def test_a_wedged_worker_is_killed_by_its_supervisor_and_every_call_counts_once(installation: Installation) -> None:
    calls = Calls(installation, 1)
    calls.produce(50)
    calls.poison(partition=0, key=b"wedge")
    wedge = installation.folder / "wedge"
    wedge.touch()
    installation.variables |= {"PYTHONPATH": str(Path(__file__).parents[1] / "wedge"), "WEDGE": str(wedge)}
    workers = installation.start("worker", "--processes", "2")
    wait_until(lambda: "is stuck (the loop has not turned" in workers.log.read_text(), within_s=FOUND_S, what="found")
    assert_each_call_counted_once(installation, calls.expected())
    said = workers.log.read_text()
    assert said.count("it is killed") == 1
    assert "was ended by signal 9: it is started again in 0.5 s" in said
