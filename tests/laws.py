"""What must hold after a run, whatever happened in it."""

from processor.sample.oracle import Expected
from processor.sample.stored import Counters, differences, read
from tests.stack import Installation


def assert_totals_equal(installation: Installation, expected: Expected) -> None:
    assert not list(differences(read(installation.dsn), expected.tables))


def assert_nothing_is_lost(installation: Installation) -> None:
    """The laws of conservation, partition by partition, against the log itself."""
    ends = installation.end_offsets(installation.topic)
    rows = installation.rows(
        "SELECT partition, next_offset - first_offset = records_read + gap_offsets,"
        " records_read = counted + duplicates + dead_lettered + skipped, first_offset, next_offset FROM checkpoints"
    )
    assert sorted(rows) == [(partition, True, True, 0, end) for partition, end in sorted(ends.items())]


def assert_each_call_counted_once(installation: Installation, expected: Expected, *, within_s: float = 30) -> None:
    """Everything on the topic is counted, and it is what the oracle says; nothing was counted twice and taken back."""
    counters = installation.wait_until_counted(within_s)
    assert_totals_equal(installation, expected)
    assert_nothing_is_lost(installation)
    assert counters == Counters(
        next_offset=counters.records_read,
        records_read=expected.calls + expected.duplicates,
        counted=expected.calls,
        duplicates=expected.duplicates,
        conflicts=expected.conflicts,
    )
