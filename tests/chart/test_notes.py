"""What the operator is told after an install."""

import pytest

from tests.chart.helm import at, merged, render
from tests.chart.variants import EVERYTHING, INLINE, MINIMAL


def test_without_any_value_the_notes_name_everything_that_is_missing() -> None:
    notes = render({}).notes
    missing = notes.partition("What is missing:")[2].partition("Mind:")[0]
    for value in ("config.kafka.bootstrap_servers", "postgres.existingSecret", "keys.existingSecret"):
        assert f"- {value}: " in missing


def test_nothing_is_missing_where_all_is_given() -> None:
    for values in (MINIMAL, INLINE, EVERYTHING):
        assert "What is missing" not in render(values).notes


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (at("ingest.replicas", 1), "ingest: there may be one pod only"),
        (at("worker.keda", {"enabled": True, "minReplicas": 1}), "worker: there may be one pod only"),
        (at("worker.replicas", 0), "worker: no pods"),
        (
            merged(at("keys.existingSecret", ""), at("config.ingest.auth_disabled", True)),
            "auth_disabled: the door asks",
        ),
        (at("postgres", {"existingSecret": "", "dsn": "postgresql://a/b"}), "postgres.dsn: "),
        (at("networkPolicy.enabled", False), "networkPolicy.enabled is false"),
        (at("metrics.podMonitor.enabled", False), "metrics are scraped by nobody"),
    ],
)
def test_what_works_and_is_unwise_is_warned_of(change: dict[str, object], warning: str) -> None:
    wise = merged(MINIMAL, at("networkPolicy.enabled", True), at("metrics.podMonitor.enabled", True))
    assert "Mind:" not in render(wise).notes
    assert warning in render(merged(wise, change)).notes.partition("Mind:")[2]


def test_the_notes_begin_with_a_call_to_paste() -> None:
    notes = render(EVERYTHING).notes
    assert "port-forward service/demo-call-processor-ingest 8080:80" in notes
    assert 'curl -i http://127.0.0.1:8080/call/end -u "api:$KEY"' in notes
    assert "helm test demo" in notes
    assert "api:$KEY" not in render(INLINE).notes
    assert "helm test" not in render(MINIMAL).notes
