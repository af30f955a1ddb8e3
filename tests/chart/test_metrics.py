"""ServiceMonitor, PodMonitor, the rules and the dashboards: what is rendered of the files, and how values change it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.helm import CHART, Manifest, Refused, at, merged, render, texts
from tests.chart.kubernetes import NEWEST, problems
from tests.chart.variants import EVERYTHING, MINIMAL, VARIANTS

GROUPS: list[dict[str, Any]] = [
    {
        "name": "some",
        "interval": "1m",
        "rules": [
            {"record": "a:b", "expr": "sum(b)"},
            {"alert": "Lost", "expr": "lost > 0", "for": "5m", "labels": {"severity": "critical"},
             "annotations": {"summary": "{{ $labels.pod }} lost {{ $value }}", "runbook_url": "docs/runbook.md#lost"}},
        ],
    },
    {"name": "other", "rules": [{"alert": "Slow", "expr": "slow > 1", "labels": {"severity": "warning"}}]},
]  # fmt: skip


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """The chart with rules and a dashboard of this test."""
    copy = shutil.copytree(CHART, tmp_path / "chart", ignore=shutil.ignore_patterns("rules", "dashboards"))
    for group in GROUPS:
        path = copy / f"files/rules/{group['name']}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({"groups": [group]}))
    (copy / "files/dashboards").mkdir()
    (copy / "files/dashboards/Some_board.json").write_text('{"title": "{{ instance }}", "a": "${datasource}"}')
    return copy


def kinds(chart: Path, values: dict[str, Any], kind: str) -> list[Manifest]:
    manifests = [one for text in texts(values, name="demo", chart=chart).values() if f"kind: {kind}\n" in text
                 for one in yaml.safe_load_all(text)]  # fmt: skip
    return [one for one in manifests if one and one["kind"] == kind]


def rules(chart: Path, **changes: Any) -> dict[str, Any]:
    """By name of the alert or record."""
    values = at("metrics.prometheusRule", {"enabled": True, **changes})
    (rule,) = kinds(chart, values, "PrometheusRule")
    assert not problems(rule, NEWEST)
    return {one.get("alert", one.get("record")): one for group in rule["spec"]["groups"] for one in group["rules"]}


def test_rules_are_those_of_the_files_braces_and_all(chart: Path) -> None:
    (rule,) = kinds(chart, at("metrics.prometheusRule.enabled", True), "PrometheusRule")
    by_name = {group["name"]: group for group in rule["spec"]["groups"]}
    wanted = {group["name"]: group for group in GROUPS}
    assert by_name["some"] == wanted["some"]
    assert [one["alert"] for one in by_name["other"]["rules"]] == ["Slow"]


def test_an_alert_can_be_left_out_and_a_group_goes_with_its_last_rule(chart: Path) -> None:
    assert {*rules(chart, alerts={"Lost": {"enabled": False}})} == {"a:b", "Slow"}
    (rule,) = kinds(
        chart,
        at("metrics.prometheusRule", {"enabled": True, "alerts": {"Slow": {"enabled": False}}}),
        "PrometheusRule",
    )
    assert [group["name"] for group in rule["spec"]["groups"]] == ["some"]


def test_an_alert_can_be_changed_and_keeps_what_is_not_said(chart: Path) -> None:
    change = {"for": "30m", "expr": "lost > 9", "labels": {"severity": "warning"}, "annotations": {"more": "x"}}
    changed = rules(chart, alertLabels={"team": "billing"}, alerts={"Lost": change})
    assert changed["Lost"] == {
        "alert": "Lost", "expr": "lost > 9", "for": "30m", "labels": {"severity": "warning", "team": "billing"},
        "annotations": {**GROUPS[0]["rules"][1]["annotations"], "more": "x"},
    }  # fmt: skip
    assert changed["Slow"]["labels"] == {"severity": "warning", "team": "billing"}
    assert changed["a:b"] == {"record": "a:b", "expr": "sum(b)"}


def test_a_runbook_is_found_where_the_documents_are(chart: Path) -> None:
    url = "https://docs.example/calls/"
    assert rules(chart, runbookBaseUrl=url)["Lost"]["annotations"]["runbook_url"] == f"{url}docs/runbook.md#lost"
    own = {"Lost": {"annotations": {"runbook_url": "https://wiki.example/lost"}}}
    changed = rules(chart, runbookBaseUrl=url, alerts=own)
    assert changed["Lost"]["annotations"]["runbook_url"] == "https://wiki.example/lost"


def test_a_mistyped_alert_is_refused_with_the_names_that_there_are(chart: Path) -> None:
    with pytest.raises(Refused, match=r"alerts\.Lsot: there is no such alert; there are Slow, Lost"):
        rules(chart, alerts={"Lsot": {"enabled": False}})


def test_every_rule_of_ours_is_rendered_as_it_is_written() -> None:
    """That its runbook has the section, and that it fires when it should, is tested where the rules are."""
    (rule,) = kinds(CHART, at("metrics.prometheusRule.enabled", True), "PrometheusRule")
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (CHART / "files/rules").glob("*.yaml")]
    written = [group for file in files for group in file["groups"]]
    assert written
    assert sorted(map(str, map(_by_key, rule["spec"]["groups"]))) == sorted(map(str, map(_by_key, written)))


def _by_key(group: dict[str, Any]) -> Any:
    return json.dumps(group, sort_keys=True)


def test_a_dashboard_is_a_config_map_that_grafanas_sidecar_finds(chart: Path) -> None:
    (found,) = kinds(chart, at("metrics.dashboards", {"enabled": True, "folder": "LLM"}), "ConfigMap")
    assert found["metadata"]["name"] == "demo-call-processor-dashboard-some-board"
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "LLM"}
    assert found["data"] == {"Some_board.json": '{"title": "{{ instance }}", "a": "${datasource}"}'}
    own = {"enabled": True, "label": "dash", "labelValue": "yes", "folderAnnotation": "f", "folder": "x"}
    (other,) = kinds(chart, at("metrics.dashboards", own), "ConfigMap")
    assert other["metadata"]["labels"]["dash"] == "yes"
    assert other["metadata"]["annotations"] == {"f": "x"}


def test_without_files_there_are_neither_rules_nor_dashboards(tmp_path: Path) -> None:
    copy = shutil.copytree(CHART, tmp_path / "chart", ignore=shutil.ignore_patterns("rules", "dashboards"))
    on = merged(at("metrics.prometheusRule.enabled", True), at("metrics.dashboards.enabled", True))
    assert not [kind for kind in ("PrometheusRule", "ConfigMap") if kinds(copy, on, kind)]


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
def test_a_monitor_scrapes_both_roles_of_this_release(kind: str) -> None:
    release = render(VARIANTS["everything, podMonitor"] if kind == "PodMonitor" else EVERYTHING)
    spec = release.one(kind)["spec"]
    (endpoint,) = spec["endpoints" if kind == "ServiceMonitor" else "podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"], endpoint["interval"]) == ("admin", "/metrics", "15s")
    assert spec["namespaceSelector"]["matchNames"] == ["prod"]
    labels = spec["selector"]["matchLabels"].items()
    if kind == "ServiceMonitor":
        targets = [one["metadata"]["labels"] for one in release.all("Service")]
    else:
        (among,) = spec["selector"]["matchExpressions"]
        targets = [pod["metadata"]["labels"] for _, pod in release.pods()]
        targets = [one for one in targets if one[among["key"]] in among["values"]]
    found = [one["app.kubernetes.io/component"] for one in targets if labels <= one.items()]
    assert sorted(found) == ["ingest", "worker"]


def test_a_monitor_takes_labels_and_relabelings() -> None:
    monitor = render(EVERYTHING).one("ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["relabelings"] == [{"targetLabel": "cluster", "replacement": "east"}]
    assert endpoint["metricRelabelings"] == [{"action": "labeldrop", "regex": "pod_template_hash"}]


def test_custom_resources_are_there_by_values_and_not_by_what_a_cluster_has() -> None:
    custom = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ScaledObject"}
    assert not custom & {one["kind"] for one in render(MINIMAL).manifests}
    assert not [
        path for path in (CHART / "templates").rglob("*") if path.is_file() and ".Capabilities" in path.read_text()
    ]


def test_dashboards_are_bound_to_no_data_source_of_ours() -> None:
    for path in (CHART / "files/dashboards").glob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert "${datasource}" in text
        uids = {one["uid"] for one in _data_sources(json.loads(text))}
        assert uids <= {"${datasource}", "-- Grafana --"}


def _data_sources(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [found for one in node for found in _data_sources(one)]
    if not isinstance(node, dict):
        return []
    own = [node["datasource"]] if isinstance(node.get("datasource"), dict) else []
    return own + [found for one in node.values() for found in _data_sources(one)]
