"""Who owns the number of pods, between which bounds, and what may take a pod away."""

from typing import Any

import pytest

from tests.chart.helm import at, merged, render
from tests.chart.variants import EVERYTHING, MINIMAL, VARIANTS

KEDA = VARIANTS["ci/keda"]
HPA = merged(*(at(f"{role}.autoscaling.enabled", True) for role in ("ingest", "worker")))


def test_replicas_are_said_only_where_no_scaler_owns_them() -> None:
    for role in ("ingest", "worker"):
        deployment = render(merged(MINIMAL, at(f"{role}.replicas", 3))).one("Deployment", f"-{role}")
        assert deployment["spec"]["replicas"] == 3
        assert "replicas" not in render(merged(MINIMAL, HPA)).one("Deployment", f"-{role}")["spec"]
    assert "replicas" not in render(KEDA).one("Deployment", "-worker")["spec"]
    assert render(merged(MINIMAL, at("worker.replicas", 0))).one("Deployment", "-worker")["spec"]["replicas"] == 0


@pytest.mark.parametrize("role", ["ingest", "worker"])
def test_a_role_can_follow_its_cpu_up_fast_and_down_slowly(role: str) -> None:
    spec = render(merged(MINIMAL, HPA)).one("HorizontalPodAutoscaler", f"-{role}")["spec"]
    assert spec["scaleTargetRef"]["name"] == f"demo-call-processor-{role}"
    assert spec["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}
    windows = {way: spec["behavior"][way]["stabilizationWindowSeconds"] for way in ("scaleUp", "scaleDown")}
    assert windows["scaleUp"] < windows["scaleDown"]


def test_further_metrics_stand_beside_or_instead_of_the_cpu() -> None:
    metrics = render(EVERYTHING).one("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert [one["type"] for one in metrics] == ["Resource", "Pods"]
    only = merged(EVERYTHING, at("ingest.autoscaling.targetCPUUtilizationPercentage", None))
    assert [one["type"] for one in render(only).one("HorizontalPodAutoscaler")["spec"]["metrics"]] == ["Pods"]


def test_workers_can_follow_the_lag_of_their_group_and_never_go_to_zero() -> None:
    spec = render(KEDA).one("ScaledObject")["spec"]
    assert spec["scaleTargetRef"]["name"] == "demo-call-processor-worker"
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 12)
    assert spec["fallback"] == {"failureThreshold": 3, "replicas": 2}
    (trigger,) = spec["triggers"]
    assert trigger["authenticationRef"] == {"name": "call-processor-kafka"}
    assert trigger["metadata"] == {
        "bootstrapServers": "kafka.example:9093", "topic": "llm-call-end", "consumerGroup": "call-processor",
        "lagThreshold": "100000", "offsetResetPolicy": "earliest", "sasl": "scram_sha512", "tls": "enable",
    }  # fmt: skip
    assert "fallback" not in render(merged(KEDA, at("worker.keda.fallback", None))).one("ScaledObject")["spec"]


def test_the_lag_is_looked_for_where_the_program_counts() -> None:
    metadata = render(EVERYTHING).one("ScaledObject")["spec"]["triggers"][0]["metadata"]
    assert (metadata["topic"], metadata["consumerGroup"]) == ("calls", "counting")


def test_workers_are_at_most_as_many_as_partitions_unless_less_is_said() -> None:
    values = merged(KEDA, at("topics.partitions", 24), at("worker.keda.maxReplicas", None))
    assert render(values).one("ScaledObject")["spec"]["maxReplicaCount"] == 24


@pytest.mark.parametrize(
    ("change", "roles"),
    [
        ({}, {"ingest", "worker"}),
        (at("worker.replicas", 1), {"ingest"}),
        (at("ingest.replicas", 0), {"worker"}),
        (merged(at("ingest.autoscaling", {"enabled": True, "minReplicas": 1})), {"worker"}),
        (at("worker.keda", {"enabled": True, "minReplicas": 1}), {"ingest"}),
        (at("ingest.podDisruptionBudget.enabled", False), {"worker"}),
    ],
)
def test_a_disruption_budget_is_there_where_there_is_always_more_than_one_pod(
    change: dict[str, Any], roles: set[str]
) -> None:
    budgets = render(merged(MINIMAL, change)).all("PodDisruptionBudget")
    assert {one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] for one in budgets} == roles


def test_a_worker_that_cannot_write_does_not_keep_a_node_from_being_drained() -> None:
    release = render(MINIMAL)
    policies = [release.one("PodDisruptionBudget", f"-{role}")["spec"] for role in ("ingest", "worker")]
    assert [one["unhealthyPodEvictionPolicy"] for one in policies] == ["IfHealthyBudget", "AlwaysAllow"]
    assert [one["maxUnavailable"] for one in policies] == [1, 1]


def test_a_disruption_budget_can_say_how_many_must_stay() -> None:
    spec = render(VARIANTS["everything, minAvailable"]).one("PodDisruptionBudget", "-ingest")["spec"]
    assert spec["minAvailable"] == "50%"
    assert "maxUnavailable" not in spec
