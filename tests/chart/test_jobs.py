"""Topics, migration and the test of a release: hooks, and when there are none."""

from typing import Any

import pytest

from tests.chart.helm import Manifest, at, merged, render
from tests.chart.pods import ours
from tests.chart.variants import EVERYTHING, INLINE, MINIMAL, VARIANTS

HOOK = "helm.sh/hook"


def annotation(manifest: Manifest, name: str) -> Any:
    return manifest["metadata"].get("annotations", {}).get(name)


def test_topics_and_migration_run_before_each_install_and_upgrade_one_after_the_other() -> None:
    jobs = {one["metadata"]["name"].rpartition("-")[2]: one for one in render(MINIMAL).all("Job")}
    assert [*jobs] == ["migrate", "topics"]
    for job in jobs.values():
        assert annotation(job, HOOK) == "pre-install,pre-upgrade"
        assert annotation(job, f"{HOOK}-delete-policy") == "before-hook-creation,hook-succeeded"
        assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert annotation(jobs["topics"], f"{HOOK}-weight") < annotation(jobs["migrate"], f"{HOOK}-weight")
    assert ours(jobs["migrate"]["spec"]["template"])["args"] == ["migrate"]
    assert ours(jobs["topics"]["spec"]["template"])["args"] == [
        "topics", "--partitions", "12", "--replication-factor", "3"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["ci/minimal", "ci/inline", "everything, inline", "ci/everything"])
def test_whatever_a_job_needs_is_there_before_it(name: str) -> None:
    """Hooks run before the release's own objects: accounts, secrets and policies of Jobs are hooks themselves."""
    release = render(VARIANTS[name])
    before = {
        (one["kind"], one["metadata"]["name"]): int(annotation(one, f"{HOOK}-weight"))
        for one in release.manifests
        if annotation(one, HOOK) == "pre-install,pre-upgrade"
    }
    made = {(one["kind"], one["metadata"]["name"]) for one in release.manifests}
    for job in release.all("Job"):
        spec = job["spec"]["template"]["spec"]
        needed = {("ServiceAccount", spec["serviceAccountName"])}
        needed |= {("Secret", volume["secret"]["secretName"]) for volume in spec["volumes"] if "secret" in volume}
        weight = before["Job", job["metadata"]["name"]]
        assert all(before[one] < weight for one in needed & made)
        assert ("ServiceAccount", spec["serviceAccountName"]) in before
        if release.all("NetworkPolicy"):
            assert before["NetworkPolicy", "demo-call-processor-setup"] < weight


def test_nothing_else_is_a_hook() -> None:
    kinds = {one["kind"] for one in render(EVERYTHING).manifests if annotation(one, HOOK) == "pre-install,pre-upgrade"}
    assert kinds == {"Job", "ServiceAccount", "NetworkPolicy"}


@pytest.mark.parametrize(
    ("values", "jobs"),
    [
        ({}, set()),
        (at("config.kafka.bootstrap_servers", "a:9092"), {"topics"}),
        (at("postgres.existingSecret", "a"), {"migrate"}),
        (merged(MINIMAL, at("migrate.enabled", False)), {"topics"}),
        (merged(MINIMAL, at("topics.enabled", False)), {"migrate"}),
        (VARIANTS["ci/gitops"], set()),
    ],
)
def test_a_job_is_there_where_it_is_wanted_and_has_what_it_needs(values: dict[str, Any], jobs: set[str]) -> None:
    """Without any value an install must come to its end, and its notes say what is missing."""
    release = render(values)
    assert {one["metadata"]["name"].rpartition("-")[2] for one in release.all("Job")} == jobs
    accounts = [one for one in release.all("ServiceAccount") if one["metadata"]["name"].endswith("-setup")]
    assert bool(accounts) == bool(jobs)


@pytest.mark.parametrize(
    ("values", "there"),
    [
        ({}, False),
        (INLINE, True),
        (MINIMAL, False),  # the door asks for a key, and there is none
        (merged(MINIMAL, at("helmTest.existingSecret", "a")), True),
        (merged(INLINE, at("helmTest.enabled", False)), False),
    ],
)
def test_helm_test_is_there_where_it_can_succeed(values: dict[str, Any], there: bool) -> None:
    assert [annotation(one, HOOK) for one in render(values).all("Pod")] == ["test"] * there


def test_helm_test_posts_to_the_door_with_its_key_and_reads_the_totals() -> None:
    release = render(EVERYTHING)
    pod = release.one("Pod")
    assert ours(pod)["command"] == ["python"]
    assert ours(pod)["args"] == [
        "/etc/call-processor/test/post_one_call.py",
        "http://demo-call-processor-ingest:80/call/end",
        "helm-test/demo",
        "/etc/call-processor/key/key",
    ]
    script = release.one("ConfigMap", "-test")
    assert {"name": "script", "configMap": {"name": script["metadata"]["name"]}} in pod["spec"]["volumes"]
    assert annotation(script, f"{HOOK}-weight") == "-1"
    compile(script["data"]["post_one_call.py"], "post_one_call.py", "exec")
