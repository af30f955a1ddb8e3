"""The judge of manifests is itself judged: it must refuse what Kubernetes and the operators would."""

import copy
from typing import Any

import pytest

from tests.chart.fetch_crds import CRDS, MODULES
from tests.chart.helm import Manifest, render
from tests.chart.kubernetes import NEWEST, OLDEST, problems
from tests.chart.variants import EVERYTHING, VARIANTS


def changed(kind: str, path: list[str | int], value: Any) -> Manifest:
    release = render(VARIANTS["everything, podMonitor"] if kind == "PodMonitor" else EVERYTHING)
    manifest = copy.deepcopy(next(iter(release.all(kind))))
    node: Any = manifest
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return manifest


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ["spec", "nobodyKnows"], 1),
        ("Deployment", ["spec", "template", "spec", "containers", 0, "ports", 0, "containerPort"], "http"),
        ("HorizontalPodAutoscaler", ["spec", "maxReplicas"], "many"),
        ("ServiceMonitor", ["spec", "nobodyKnows"], 1),
        ("ServiceMonitor", ["spec", "endpoints", 0, "interval"], "often"),
        ("PodMonitor", ["spec", "podMetricsEndpoints", 0, "nobodyKnows"], 1),
        ("PrometheusRule", ["spec", "groups", 0, "rules", 0, "for"], 5),
        ("PrometheusRule", ["spec", "groups", 0, "rules", 0, "severity"], "x"),
        ("ScaledObject", ["spec", "minReplicaCount"], "one"),
        ("ScaledObject", ["spec", "triggers", 0, "metadata", "lagThreshold"], 5),
    ],
)
def test_what_is_wrong_is_named(kind: str, path: list[str | int], value: Any, version: str) -> None:
    (problem,) = problems(changed(kind, path, value), version)
    assert problem.startswith(f"{kind}/demo-call-processor")


def test_a_kind_without_a_schema_is_an_error_and_no_success() -> None:
    with pytest.raises(AssertionError, match="no schema of Probe"):
        problems({"apiVersion": "monitoring.coreos.com/v1", "kind": "Probe", "metadata": {"name": "a"}}, NEWEST)
    with pytest.raises(FileNotFoundError):
        problems({"apiVersion": "apps/v1", "kind": "Nothing", "metadata": {"name": "a"}}, NEWEST)


def test_published_schemas_say_where_they_come_from() -> None:
    text = (CRDS / "README.md").read_text(encoding="utf-8")
    sources = {file.rpartition("/")[2]: f"# {module} {file}" for module, files in MODULES.items() for file in files}
    assert {path.name: path.read_text().splitlines()[0] for path in CRDS.glob("*.yaml")} == sources
    for module in MODULES:
        name, _, version = module.rpartition("@")
        assert f"| {name} | {version} | `h1:" in text
