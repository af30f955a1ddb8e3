"""A worker that has nothing to read still looks after what it has written."""

import pytest

from tests.laws import assert_nothing_is_lost, assert_totals_equal
from tests.produce import Calls
from tests.snapshot import Snapshot
from tests.stack import Installation

pytestmark = pytest.mark.stack
NOTICED_S = 10.0


def test_idle_partitions_notice_that_the_database_forgot_their_tail_and_read_it_again(
    installation: Installation,
) -> None:
    calls = Calls(installation, 1)
    worker = installation.start_worker()
    calls.produce(100)
    installation.wait_until_counted()
    snapshot = Snapshot(installation.dsn)
    calls.produce(100)
    installation.wait_until_counted()
    snapshot.restore()
    installation.wait_until_counted(NOTICED_S)
    assert_totals_equal(installation, calls.expected())
    assert_nothing_is_lost(installation)
    assert worker.is_ready()
    assert "the database went back in time" in worker.log.read_text()
