"""What `verify` tells people."""

import pytest

from processor.audit.recount import Conflict
from processor.audit.verify import Difference
from processor.cli.verify_report import TextReport
from processor.ledger import Winner


def test_what_a_client_calls_things_is_one_line_and_no_command_of_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = TextReport()
    report.difference(Difference(("status_totals", "acme/a\nb", 0, "\x9b2Jdone", "leaf"), (1,), (2,)))
    report.conflict(Conflict("acme/a", "id\r\n", Winner(0, 1, 2), Winner(0, 3, 4)))
    difference, conflict = capsys.readouterr().out.splitlines()
    assert difference == "status_totals acme/a?b 1970-01-01T00:00:00Z ?2Jdone leaf: count stored 1, recounted 2"
    assert conflict.startswith("conflict acme/a id??: first 0/1 ")
