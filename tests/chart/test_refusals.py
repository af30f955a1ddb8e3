"""Values that contradict each other, or could not work, are refused before anything reaches a cluster."""

import pytest

from processor.kafka.consumer import consumer_properties
from processor.worker.loop import BATCH_MAX_BYTES
from tests.chart.helm import Refused, at, merged, render
from tests.chart.variants import INLINE, MINIMAL

MIB = 2**20
KEDA = at("worker.keda", {"enabled": True, "maxReplicas": 6})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (merged(MINIMAL, KEDA, at("worker.autoscaling.enabled", True)),
         "worker.keda and worker.autoscaling are both enabled"),
        (merged(INLINE, at("postgres.existingSecret", "a")), "postgres.existingSecret and postgres.dsn are both set"),
        (merged(INLINE, at("kafka.existingSecret", "a")), "kafka.existingSecret and kafka.properties are both set"),
        (merged(MINIMAL, at("keys.file", "a")), "keys.existingSecret and keys.file are both set"),
        (merged(INLINE, at("keys.file", "a")), "keys are given and config.ingest.auth_disabled is true"),
        (at("worker.replicas", 13), "up to 13 workers for topics.partitions: 12"),
        (merged(MINIMAL, KEDA, at("topics.partitions", 5)), "up to 6 workers for topics.partitions: 5"),
        (at("worker.autoscaling", {"enabled": True, "maxReplicas": 13}), "up to 13 workers for topics.partitions: 12"),
        (at("ingest.autoscaling", {"enabled": True, "minReplicas": 11}),
         "ingest.autoscaling.minReplicas is 11, more than its maxReplicas, 10"),
        (merged(MINIMAL, KEDA, at("worker.keda.minReplicas", 7)), "worker.keda.minReplicas is 7, more than"),
        (KEDA, "worker.keda is enabled and config.kafka.bootstrap_servers is not set"),
        (merged(at("ingest.autoscaling.enabled", True), at("ingest.resources.requests.cpu", None)),
         "ingest.resources.requests.cpu is not set"),
        (at("ingest.autoscaling", {"enabled": True, "targetCPUUtilizationPercentage": None}),
         "ingest.autoscaling is enabled without any metric"),
        (at("worker.podDisruptionBudget.minAvailable", 1), "has both minAvailable and maxUnavailable"),
        (at("worker.podDisruptionBudget.maxUnavailable", None), "has neither minAvailable nor maxUnavailable"),
        (at("ingest.terminationGracePeriodSeconds", 24), "ingest.terminationGracePeriodSeconds is 24, and stopping"),
        (at("worker.terminationGracePeriodSeconds", 30), "worker.terminationGracePeriodSeconds is 30, and stopping"),
        (at("config.ingest.max_in_flight_bytes", 512 * 2**20), "more than a third of ingest.resources.limits.memory"),
        (at("ingest.resources.limits.memory", "64Mi"), "less than four of the largest bodies"),
        (at("worker.resources.limits.memory", "256Mi"), "a worker may need 608Mi"),
        (at("config.ingest.max_record_bytes", 67108864), "worker.resources.limits.memory is 1Gi: with records of up"),
        (at("ingest.ingress.enabled", True), "ingest.ingress is enabled without hosts"),
        (at("metrics", {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}),
         "metrics.serviceMonitor and metrics.podMonitor are both enabled"),
        (merged(MINIMAL, at("extraEnv", [{"name": "CALL_PROCESSOR_KAFKA__BOOTSTRAP_SERVERS", "value": "a"}])),
         "sets CALL_PROCESSOR_KAFKA__BOOTSTRAP_SERVERS, which the chart sets from other values"),
        (at("metrics.prometheusRule.alerts.NoSuchAlert", {"enabled": False}),
         "metrics.prometheusRule.alerts.NoSuchAlert: there is no such alert"),
    ],
)  # fmt: skip
def test_it_is_said_in_a_sentence(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        render(values)
    assert sentence in str(refused.value)


def test_all_contradictions_are_said_at_once() -> None:
    with pytest.raises(Refused) as refused:
        render(merged(INLINE, at("postgres.existingSecret", "a"), at("worker.replicas", 13), at("keys.file", "a")))
    assert str(refused.value).count("\n- ") == 3


def test_the_least_memory_of_a_worker_follows_from_its_batches() -> None:
    """And its queue is no larger than a batch: see `call-processor.workerBytes`."""
    assert consumer_properties({}, "group", 10)["queued.max.messages.kbytes"] * 1024 <= BATCH_MAX_BYTES
    for record_bytes in (8 * MIB, 16 * MIB):
        needed = 128 * MIB + 12 * (BATCH_MAX_BYTES + record_bytes)
        values = at("config.ingest.max_record_bytes", record_bytes)
        render(merged(values, at("worker.resources.limits.memory", needed)))
        with pytest.raises(Refused, match="a worker may need"):
            render(merged(values, at("worker.resources.limits.memory", needed - 1)))
