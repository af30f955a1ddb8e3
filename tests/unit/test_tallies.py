"""Our own counters and histograms are exposed as the client library's would be."""

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from processor.tallies import ByPartition, Distribution, Tally


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_a_tally_begins_at_zero_and_counts_by_labels(registry: CollectorRegistry) -> None:
    tally = Tally("answers_total", "Answers.", ("status",), [("200",), ("503",)], registry)
    for status in ("200", "200", "418"):
        tally.inc((status,))
    found = {status: registry.get_sample_value("answers_total", {"status": status}) for status in ("200", "503", "418")}
    assert found == {"200": 2, "503": 0, "418": 1}


def test_a_distribution_has_the_buckets_that_a_histogram_has() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bounds = (0.001, 0.5, 1, 10)
    mine = Distribution("wait_seconds", "Waiting.", bounds, ours)
    library = Histogram("wait_seconds", "Waiting.", buckets=bounds, registry=theirs)
    for value in (0.0, 0.001, 0.0011, 1, 1, 5, 100):
        mine.observe(value)
        library.observe(value)
    assert generate_latest(ours) == generate_latest(theirs)


def test_several_values_are_observed_at_once(registry: CollectorRegistry) -> None:
    delay = Distribution("delay_seconds", "Delay.", (1, 10), registry)
    delay.observe(2, 500)
    assert registry.get_sample_value("delay_seconds_bucket", {"le": "1.0"}) == 0
    assert registry.get_sample_value("delay_seconds_bucket", {"le": "10.0"}) == 500
    assert registry.get_sample_value("delay_seconds_sum") == 1000


def test_a_partition_that_went_leaves_no_series(registry: CollectorRegistry) -> None:
    lag = ByPartition("lag_records", "Lag.", registry)
    owned = {0: 5.0, 3: 7.0}
    lag.set_function(lambda: owned)
    assert registry.get_sample_value("lag_records", {"partition": "3"}) == 7
    del owned[3]
    assert registry.get_sample_value("lag_records", {"partition": "3"}) is None
