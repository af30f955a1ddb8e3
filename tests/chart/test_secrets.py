"""Secrets are files of secrets that exist, or of ones that the chart makes; each pod sees those that it needs."""

import pytest

from tests.chart.helm import Release, at, merged, render
from tests.chart.pods import deployment_pod, environment, ours
from tests.chart.variants import EVERYTHING, INLINE, MINIMAL, VARIANTS

WHO_READS = {
    "demo-call-processor-ingest": {"kafka", "keys"},
    "demo-call-processor-worker": {"kafka", "postgres"},
    "demo-call-processor-topics": {"kafka"},
    "demo-call-processor-migrate": {"postgres"},
    "demo-call-processor-test": {"postgres"},
}


def mounted(release: Release) -> dict[str, dict[str, str]]:
    """Per pod: name of the volume, and of the secret in it."""
    return {
        name: {
            volume["name"]: volume["secret"]["secretName"]
            for volume in pod["spec"]["volumes"]
            if "secret" in volume and volume["name"] != "key"
        }
        for name, pod in release.pods()
    }


def test_each_pod_sees_the_secrets_that_it_needs_and_no_other() -> None:
    assert {name: {*secrets} for name, secrets in mounted(render(EVERYTHING)).items()} == WHO_READS
    assert set().union(*(secrets.values() for secrets in mounted(render(EVERYTHING)).values())) == {
        f"call-processor-{name}" for name in ("postgres", "kafka", "keys")
    }
    assert not render(EVERYTHING).all("Secret")


def test_whole_secrets_are_mounted_so_that_a_rotated_one_reaches_the_pod() -> None:
    for _, pod in render(EVERYTHING).pods():
        mounts = [mount for mount in ours(pod)["volumeMounts"] if mount["mountPath"].startswith("/etc/call-processor")]
        assert mounts
        assert not [mount for mount in mounts if "subPath" in mount or not mount["readOnly"]]
        assert not [volume for volume in pod["spec"]["volumes"] if "items" in volume.get("secret", {})]


def test_files_are_named_by_the_key_of_the_secret() -> None:
    worker = environment(deployment_pod(EVERYTHING, "worker"))
    assert worker["CALL_PROCESSOR_POSTGRES__DSN_FILE"] == "/etc/call-processor/postgres/uri"
    assert worker["CALL_PROCESSOR_KAFKA__PROPERTIES_FILE"] == "/etc/call-processor/kafka/client.properties"


def test_the_chart_has_no_secret_of_its_own_unless_the_values_hold_one() -> None:
    for name in ("nothing", "ci/minimal", "ci/keda", "ci/everything"):
        assert not render(VARIANTS[name]).all("Secret")


def test_what_the_values_hold_becomes_secrets_and_copies_for_the_jobs_that_run_before_them() -> None:
    release = render(VARIANTS["everything, inline"])
    secrets = {one["metadata"]["name"].removeprefix("demo-call-processor-"): one for one in release.all("Secret")}
    assert {*secrets} == {"postgres", "kafka", "keys", "setup-postgres", "setup-kafka"}
    for name, secret in secrets.items():
        hooked = "helm.sh/hook" in secret["metadata"]["annotations"]
        assert hooked == name.startswith("setup-")
    assert secrets["postgres"]["stringData"] == secrets["setup-postgres"]["stringData"]
    assert secrets["kafka"]["stringData"]["client.properties"].splitlines() == [
        "log.queue=true", "security.protocol=SSL", "socket.timeout.ms=12000000"
    ]  # fmt: skip
    used = {secret for of_pod in mounted(release).values() for secret in of_pod.values()}
    assert used == {one["metadata"]["name"] for one in release.all("Secret")}
    assert mounted(release)["demo-call-processor-migrate"] == {"postgres": "demo-call-processor-setup-postgres"}


def test_no_copy_is_made_for_jobs_that_do_not_run() -> None:
    values = merged(INLINE, at("migrate.enabled", False), at("topics.enabled", False))
    assert {one["metadata"]["name"] for one in render(values).all("Secret")} == {
        "demo-call-processor-postgres", "demo-call-processor-kafka"
    }  # fmt: skip


def _checksums(values: dict[str, object]) -> dict[str, str | None]:
    annotations = {
        role: deployment_pod(values, role)["metadata"].get("annotations", {}) for role in ("ingest", "worker")
    }
    return {role: found.get("checksum/config") for role, found in annotations.items()}


@pytest.mark.parametrize(
    ("path", "value", "restarted"),
    [
        ("postgres.dsn", "postgresql://other/calls", {"worker"}),
        ("kafka.properties.client\\.rack", "a", {"ingest", "worker"}),
        ("config.kafka.group", "b", set()),  # changes the pod by itself
    ],
)
def test_a_change_of_what_is_read_at_the_start_restarts_who_reads_it(
    path: str, value: str, restarted: set[str]
) -> None:
    section, _, rest = path.partition(".")
    change = {section: at("properties", {"client.rack": value})} if "properties" in rest else at(path, value)
    before, after = _checksums(INLINE), _checksums(merged(INLINE, change))
    assert {role for role in before if before[role] != after[role]} == restarted


def test_keys_restart_nothing_as_the_door_reads_them_again_by_itself() -> None:
    keys = [merged(MINIMAL, at("keys", {"existingSecret": "", "file": text})) for text in ("a", "b")]
    assert deployment_pod(keys[0], "ingest") == deployment_pod(keys[1], "ingest")


def test_checksums_can_be_left_out() -> None:
    assert {*_checksums(merged(INLINE, at("checksumAnnotations", False))).values()} == {None}
