"""A short run of `make chaos`. On servers of its own, which it kills: about 90 s, most of them waiting, and at times as
much of both cores as there is."""

from pathlib import Path

import pytest

from tests.chaos.faults import KINDS
from tests.chaos.run import Plan, run
from tests.chaos.schedule import schedule

pytestmark = pytest.mark.stack
SEED = 3802  # nine faults of nine kinds, within a minute
FAULTS = 9
EVENTS = 20_000


@pytest.mark.timeout(400)
def test_totals_are_exact_after_nine_faults_in_a_minute(tmp_path: Path) -> None:
    report = run(Plan("a short run", SEED, EVENTS, schedule(SEED, FAULTS, KINDS)), tmp_path)
    assert not report.problems, report.to_text()
    assert not report.impossible_faults
    assert len(report.faults) == FAULTS, report.to_text()
    assert report.takeovers.count
    assert report.repeats_absorbed
