"""The matrix: whatever the values, what is rendered is valid, and says the same to every part of it."""

import importlib
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

import processor
from tests.chart.helm import CHART, Refused, at, lint, merged, render, texts
from tests.chart.kubernetes import NEWEST, OLDEST, problems
from tests.chart.variants import EVERYTHING, INLINE, MINIMAL, SWITCHES, VARIANTS

SELECTOR = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}
LABELLED = merged(
    at("commonLabels", {"app.kubernetes.io/name": "other", "team": "a"}),
    at("commonAnnotations", {"example.com/note": "b"}),
    at("extraManifests", []),
)
variants = pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)


@variants
def test_every_variant_is_valid_for_the_oldest_and_the_newest_kubernetes(values: dict[str, Any]) -> None:
    manifests = render(values).manifests
    assert not [problem for version in (OLDEST, NEWEST) for one in manifests for problem in problems(one, version)]


@pytest.mark.parametrize("name", ["nothing", *(name for name in VARIANTS if name.startswith(("ci/", "everything,")))])
def test_lint_finds_nothing_even_when_it_is_strict(name: str) -> None:
    assert not lint(VARIANTS[name])


def test_the_matrix_knows_every_switch() -> None:
    assert {"worker.keda.enabled", "networkPolicy.enabled", "migrate.enabled", "checksumAnnotations"} <= {*SWITCHES}


@variants
def test_no_object_is_there_twice(values: dict[str, Any]) -> None:
    names = Counter((one["kind"], one["metadata"]["name"]) for one in render(values).manifests)
    assert not [name for name, count in names.items() if count > 1]


@pytest.mark.parametrize("name", ["a" * 53, "call-processor", "my-call-processor-2", "007", "1e5"])
def test_any_release_name_makes_names_and_labels_that_kubernetes_takes(name: str) -> None:
    release = render(EVERYTHING, name=name, namespace="42")
    assert not [problem for one in release.manifests for problem in problems(one, NEWEST)]
    assert not [one["metadata"]["name"] for one in release.manifests if len(one["metadata"]["name"]) > 63]
    assert {one["metadata"]["labels"]["app.kubernetes.io/instance"] for one in release.all("Deployment")} == {name}


def test_a_release_that_is_called_like_the_chart_does_not_say_it_twice() -> None:
    assert render(name="call-processor").one("Service", "-ingest")["metadata"]["name"] == "call-processor-ingest"
    assert render({"fullnameOverride": "door"}).one("Deployment", "worker")["metadata"]["name"] == "door-worker"
    assert render({"nameOverride": "calls"}).one("Deployment", "worker")["metadata"]["name"] == "demo-calls-worker"


@variants
def test_selectors_hold_what_never_changes_and_find_their_pods(values: dict[str, Any]) -> None:
    release = render(merged(values, LABELLED))
    for deployment in release.all("Deployment"):
        wanted = deployment["spec"]["selector"]["matchLabels"]
        assert {*wanted} == SELECTOR
        assert wanted.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    labels = [pod["metadata"]["labels"] for _, pod in release.pods()]
    selectors = [one["spec"]["selector"] for one in release.all("Service")]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in release.all("PodDisruptionBudget")]
    selectors += [one["spec"]["podSelector"]["matchLabels"] for one in release.all("NetworkPolicy")]
    assert selectors
    assert not [one for one in selectors if sum(one.items() <= of_pod.items() for of_pod in labels) < 1]


@variants
def test_every_object_of_ours_carries_the_standard_labels_and_the_common_ones(values: dict[str, Any]) -> None:
    for one in render(merged(values, LABELLED)).manifests:
        labels = one["metadata"]["labels"]
        assert labels["helm.sh/chart"] == f"call-processor-{_chart()['version']}"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/version"] == processor.__version__
        assert labels["team"] == "a"
        assert one["metadata"]["annotations"]["example.com/note"] == "b"
        assert one["metadata"]["namespace"] == "prod"


def test_pods_do_not_carry_the_charts_version_so_that_a_new_chart_alone_restarts_nothing() -> None:
    for _, pod in render(EVERYTHING).pods():
        if pod.get("kind") != "Pod":
            assert "helm.sh/chart" not in pod["metadata"]["labels"]
            assert pod["metadata"]["labels"]["cost-center"] == "42"


def test_nothing_is_installed_beside_ours() -> None:
    """No broker, no database, no role, no CRD: the whole list of kinds."""
    kinds = {one["kind"] for values in VARIANTS.values() for one in render(values).manifests}
    assert kinds == {
        "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "Job", "NetworkPolicy", "Pod",
        "PodDisruptionBudget", "PodMonitor", "ScaledObject", "Secret", "Service", "ServiceAccount", "ServiceMonitor",
        *_rules(),
    }  # fmt: skip
    assert "dependencies" not in _chart()
    assert not (CHART / "crds").exists()


def _rules() -> set[str]:
    return {"PrometheusRule"} if [*(CHART / "files/rules").glob("*.yaml")] else set()


def test_the_chart_runs_the_image_of_its_own_version_or_what_it_is_told() -> None:
    assert _chart()["appVersion"] == processor.__version__
    assert _images(MINIMAL) == {f"call-processor:{processor.__version__}"}
    image = {"registry": "a.example", "repository": "b/c", "tag": "1.2"}
    assert _images(merged(MINIMAL, at("image", image))) == {"a.example/b/c:1.2"}
    assert _images(merged(MINIMAL, at("image", image), at("global.imageRegistry", "m"))) == {"m/b/c:1.2"}
    digest = "sha256:" + "a" * 64
    assert _images(merged(MINIMAL, at("image", {**image, "digest": digest}))) == {f"a.example/b/c@{digest}"}


def _images(values: dict[str, Any]) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for _, pod in render(values).pods()}


def test_pull_secrets_of_this_chart_and_of_the_umbrella_are_in_every_pod() -> None:
    for _, pod in render(EVERYTHING).pods():
        assert pod["spec"]["imagePullSecrets"] == [{"name": "mirror"}, {"name": "registry"}]


def test_kubernetes_older_than_its_fields_is_refused_by_the_chart() -> None:
    assert _chart()["kubeVersion"] == f">={OLDEST}.0-0"


def test_the_schema_takes_nothing_that_the_chart_does_not_know() -> None:
    for path in ("ingres", "ingest.replica", "worker.keda.minReplica", "config.kafka.bootstrap", "config.admin",
                 "metrics.prometheusRule.alerts.A.severity", "topics.retention"):  # fmt: skip
        with pytest.raises(Refused, match=r"[Aa]dditional properties"):
            render(at(path, {}))
    render({"global": {"anything": {"of": "siblings"}}, "enabled": True})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("ingest.replicas", -1),
        ("worker.keda.minReplicas", 0),
        ("image.digest", "latest"),
        ("config.log.level", "loud"),
        ("config.ingest.ack_timeout_s", 1),
        ("metrics.serviceMonitor.interval", "often"),
        ("ingest.resources.limits.memory", "much"),
        ("ingest.podDisruptionBudget.maxUnavailable", "half"),
    ],
)
def test_the_schema_refuses_what_cannot_be(path: str, value: object) -> None:
    with pytest.raises(Refused, match=path.rpartition(".")[2]):
        render(at(path, value))


def test_it_can_be_part_of_an_umbrella_chart(tmp_path: Path) -> None:
    """Whose condition is a value of ours, and whose `global` holds what others need."""
    shutil.copytree(CHART, tmp_path / "charts/call-processor")
    dependency = {"name": "call-processor", "version": "*", "repository": "", "condition": "call-processor.enabled"}
    umbrella = {"apiVersion": "v2", "name": "umbrella", "version": "1.0.0", "dependencies": [dependency]}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(umbrella))
    values = {"call-processor": {**MINIMAL, "enabled": True}, "global": {"imageRegistry": "m", "domain": "example.com"}}
    rendered = "".join(texts(values, chart=tmp_path).values())
    assert f"image: m/call-processor:{processor.__version__}" in rendered
    assert "kind: Deployment" not in "".join(texts({"call-processor": {"enabled": False}}, chart=tmp_path).values())


def test_annotations_for_artifact_hub_are_there_and_well_formed() -> None:
    annotations = _chart()["annotations"]
    assert annotations["artifacthub.io/license"] == "Apache-2.0"
    assert [one["kind"] for one in yaml.safe_load(annotations["artifacthub.io/changes"])] == ["added"]


def test_a_package_holds_the_rules_and_dashboards_and_no_values_of_trials(tmp_path: Path) -> None:
    helm_python = importlib.import_module("helm_python")
    with helm_python.Chart.load(helm_python.package(CHART, destination=tmp_path)) as packaged:
        names = {one["name"] for one in packaged.files}
    assert "files/post_one_call.py" in names
    assert {f"files/{path.relative_to(CHART / 'files').as_posix()}" for path in (CHART / "files").glob("*/*")} <= names
    assert not [name for name in names if name.startswith("ci/") or name.endswith(".frame")]


def test_extra_manifests_are_templated() -> None:
    release = render(EVERYTHING)
    assert {"demo-extra", "demo-call-processor-text"} <= {one["metadata"]["name"] for one in release.all("ConfigMap")}


def test_inline_values_are_for_trying_out_only_and_so_say_the_notes() -> None:
    assert "postgres.dsn: the connection string is in the release's values" in render(INLINE).notes


def _chart() -> Any:
    return yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
