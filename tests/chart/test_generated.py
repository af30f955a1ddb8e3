"""What is generated is committed, and as it would be generated now; every value is described and does something."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.chart.generated import GENERATED, SCHEMA
from tests.chart.helm import CHART, Refused, at, defaults, merged, texts
from tests.chart.readme import Value, values
from tests.chart.variants import EVERYTHING, INLINE, INSTEAD, MINIMAL


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_a_generated_file_is_as_it_would_be_generated_now(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == GENERATED[path](), f"{path.name} is stale: `make chart`"


def test_every_value_has_a_description() -> None:
    described = {value.path for value in values() if value.description}
    assert not [
        value.path
        for value in values()
        if not value.is_map and not any(value.path == one or value.path.startswith(f"{one}.") for one in described)
    ]


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert _paths_of(schema, schema) - {"enabled"} == _paths(defaults())


def _paths(tree: dict[str, Any], prefix: str = "") -> set[str]:
    """Of maps that the schema closes; what is passed through to Kubernetes is one value."""
    found = set()
    for key, value in tree.items():
        path = prefix + key
        found.add(path)
        if isinstance(value, dict) and value and path not in PASSED_THROUGH:
            found |= _paths(value, f"{path}.")
    return found


PASSED_THROUGH = {
    "config",
    "podSecurityContext", "securityContext", "worker.keda.fallback",
    *(f"{role}.{key}" for role in ("ingest", "worker", "setup")
      for key in ("strategy", "resources", "startupProbe", "livenessProbe", "readinessProbe", "autoscaling.behavior",
                  "keda.behavior")),
}  # fmt: skip


def _paths_of(schema: dict[str, Any], node: dict[str, Any], prefix: str = "") -> set[str]:
    if "$ref" in node:
        node = schema["definitions"][node["$ref"].rpartition("/")[2]]
    if prefix.rstrip(".") in PASSED_THROUGH or "properties" not in node:
        return set()
    found = set()
    for key, value in node["properties"].items():
        found |= {prefix + key} | _paths_of(schema, value, f"{prefix}{key}.")
    return found


# What a value is changed to, where its type does not say it.
CHANGED: dict[str, Any] = {
    "image.digest": "sha256:" + "b" * 64,
    "image.pullPolicy": "Always",
    "externalTrafficPolicy": "Cluster",
    "service.type": "NodePort",
    "unhealthyPodEvictionPolicy": "AlwaysAllow",
    "worker.podDisruptionBudget.unhealthyPodEvictionPolicy": "IfHealthyBudget",
    "minAvailable": "60%",
    "ingress.path": "/other",
    "tmpSizeLimit": "1Gi",
    "memory": "900Mi",
    "interval": "7s",
    "scrapeTimeout": "3s",
    "global.imagePullSecrets": [{"name": "x"}],
    "imagePullSecrets": [{"name": "x"}],
    "maxReplicas": 5,
    "minReplicas": 3,
    "loadBalancerSourceRanges": ["10.9.0.0/16"],
    "ingress.hosts": ["x.example"],
    "ports": [1234],
    "extraEnv": [{"name": "X", "value": "y"}],
    "initContainers": [{"name": "x", "image": "y"}],
    "extraContainers": [{"name": "x", "image": "y"}],
    "extraVolumes": [{"name": "x", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "x", "mountPath": "/x"}],
    "Probe": {"periodSeconds": 9},
    "terminationGracePeriodSeconds": 300,
    "strategy": {"type": "Recreate"},
    "config.kafka": {"topic": "x"},
    "config.worker": {"breaker_run": 7},
    "config.log": {"level": "debug"},
    "kafka.properties": {"client.rack": "x"},
    "extraManifests": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}],
}  # fmt: skip


def _changed(value: Value) -> Any:
    for path, changed in sorted(CHANGED.items(), key=lambda item: -len(item[0])):
        if value.path.endswith(path):
            return changed
    match value.default:
        case int():
            return value.default + 1
        case str():
            return f"x{value.default}"
        case list():
            return [{"x": "y"}]
    return {"x": "y"}


BASES = [EVERYTHING, INLINE, MINIMAL, *(merged(EVERYTHING, one) for one in INSTEAD.values())]
BY_NAME = "metrics.prometheusRule.alerts"  # of alerts: test_metrics.py


@pytest.mark.parametrize(
    "value", [one for one in values() if not one.is_map and one.path != BY_NAME], ids=lambda one: one.path
)
def test_every_value_changes_what_is_rendered(value: Value, chart: Path) -> None:
    """In one at least of: everything, and everything with what it excludes; else nobody would notice that it does
    nothing.
    """
    changes = [True, False] if isinstance(value.default, bool) else [_changed(value)]
    assert any(_differs(chart, number, at(value.path, changed)) for number in range(len(BASES)) for changed in changes)


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a dashboard at least."""
    copy = shutil.copytree(CHART, tmp_path_factory.mktemp("chart") / "helm")
    (copy / "files/dashboards").mkdir(exist_ok=True)
    (copy / "files/dashboards/one.json").write_text("{}")
    return copy


@cache
def _rendered(chart: Path, number: int) -> dict[str, str]:
    return texts(BASES[number], chart=chart)


def _differs(chart: Path, number: int, change: dict[str, Any]) -> bool:
    """What contradicts a base is tried with another one; what the schema refuses is wrong in CHANGED."""
    try:
        return texts(merged(BASES[number], change), chart=chart) != _rendered(chart, number)
    except Refused as refused:
        if "specifications of the schema" in str(refused):
            raise
        return False
