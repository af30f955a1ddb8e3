"""Services, the Ingress, and who may reach whom."""

from typing import Any

from tests.chart.helm import Manifest, at, merged, render
from tests.chart.variants import EVERYTHING, MINIMAL, VARIANTS

POLICIES = merged(MINIMAL, at("networkPolicy.enabled", True), at("helmTest.existingSecret", "a"))


def policy(component: str, values: dict[str, Any] = POLICIES) -> Manifest:
    spec: Manifest = render(values).one("NetworkPolicy", f"-{component}")["spec"]
    return spec


def ports(rules: list[Manifest]) -> set[int]:
    return {port["port"] for rule in rules for port in rule["ports"]}


def test_the_door_has_a_service_and_metrics_have_others_that_are_never_published() -> None:
    release = render(EVERYTHING)
    door = release.one("Service", "-ingest")["spec"]
    assert (door["type"], door["externalTrafficPolicy"]) == ("LoadBalancer", "Local")
    assert [(one["name"], one["port"]) for one in door["ports"]] == [("http", 80)]
    for role in ("ingest", "worker"):
        metrics = release.one("Service", f"-{role}-metrics")["spec"]
        assert metrics["clusterIP"] == "None"
        assert metrics["publishNotReadyAddresses"] is True
    assert [one["name"] for one in render({}).one("Service", "-ingest")["spec"]["ports"]] == ["http"]


def test_the_ingress_takes_bodies_as_large_as_the_door_does() -> None:
    ingress = render(EVERYTHING).one("Ingress")
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"] == "4194304"
    assert ingress["spec"]["ingressClassName"] == "nginx"
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == "calls.example.com"
    (path,) = rule["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/call/end", "Exact")
    assert path["backend"]["service"] == {"name": "demo-call-processor-ingest", "port": {"name": "http"}}


def test_the_body_size_of_the_ingress_can_be_said_otherwise() -> None:
    own = at("ingest.ingress.annotations", {"nginx.ingress.kubernetes.io/proxy-body-size": "1g"})
    annotations = render(merged(EVERYTHING, own)).one("Ingress")["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-body-size"] == "1g"
    none = render(merged(EVERYTHING, at("ingest.ingress.bodySizeAnnotation", ""))).one("Ingress")
    assert "nginx.ingress.kubernetes.io/proxy-body-size" not in none["metadata"]["annotations"]


def test_every_pod_has_a_policy_for_both_directions() -> None:
    release = render(POLICIES)
    selected = {one["metadata"]["labels"]["app.kubernetes.io/component"] for _, one in release.pods()}
    assert {one["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
            for one in release.all("NetworkPolicy")} == selected  # fmt: skip
    assert all(one["spec"]["policyTypes"] == ["Ingress", "Egress"] for one in release.all("NetworkPolicy"))


def test_in_come_only_who_posts_and_who_scrapes() -> None:
    ingest = policy("ingest")["ingress"]
    assert [[*ports([rule])] for rule in ingest] == [[8080], [9464]]
    namespaces = [str(rule["from"]) for rule in ingest]
    assert "ingress-nginx" in namespaces[0]
    assert "monitoring" in namespaces[1]
    assert ports(policy("worker")["ingress"]) == {9464}
    assert not policy("setup")["ingress"]
    assert not policy("test")["ingress"]
    closed = merged(POLICIES, at("networkPolicy", {"monitoringFrom": [], "ingressFrom": []}))
    (only_the_test,) = policy("ingest", closed)["ingress"]
    assert [list(peer) for peer in only_the_test["from"]] == [["podSelector"]]
    assert not policy("worker", closed)["ingress"]


def test_out_go_only_names_brokers_and_the_database_each_pod_what_it_needs() -> None:
    reached = {role: ports(policy(role)["egress"]) for role in ("ingest", "worker", "setup", "test")}
    brokers = {9092, 9093, 9094}
    assert reached == {
        "ingest": {53} | brokers,
        "worker": {53, 5432} | brokers,
        "setup": {53, 5432} | brokers,
        "test": {53, 5432, 8080},
    }
    named = policy("worker", VARIANTS["ci/gitops"])["egress"]
    assert [rule["to"][0]["ipBlock"]["cidr"] for rule in named if ports([rule]) != {53}] == [
        "10.1.0.0/24", "10.2.0.7/32"
    ]  # fmt: skip
    assert 443 in ports(policy("worker", EVERYTHING)["egress"])
