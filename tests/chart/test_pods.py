"""What every pod is allowed, how it is asked, how it ends, and what the program reads of its environment."""

import math
from typing import Any

import pytest

from bench import door, report, worker
from processor.config import PREFIX, Settings
from processor.ingest.body import CLOSING_READ_TIMEOUT_S
from processor.kafka.promises import QUEUE_BYTES
from processor.worker.loop import DEAD_LETTER_TIMEOUT_S, SINK_DEADLINE_S
from tests.chart.helm import at, merged, render
from tests.chart.pods import deployment_pod, environment, ours, settings
from tests.chart.settings import OWNED, names
from tests.chart.variants import EVERYTHING, INLINE, MINIMAL, VARIANTS

variants = pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
MIB = 2**20


@variants
def test_every_pod_passes_the_restricted_pod_security_standard(values: dict[str, Any]) -> None:
    for _, pod in render(values).pods():
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert security.get("runAsUser", 10001) >= 10000
        assert ours(pod)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC"} & {*pod["spec"]}


@variants
def test_the_only_path_that_can_be_written_is_tmp(values: dict[str, Any]) -> None:
    for _, pod in render(values).pods():
        writable = [mount["mountPath"] for mount in ours(pod)["volumeMounts"] if not mount.get("readOnly")]
        assert writable == ["/tmp"]  # noqa: S108
        (tmp,) = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "tmp"]
        assert tmp["emptyDir"]["sizeLimit"]


@variants
def test_no_pod_has_a_token_a_role_or_the_addresses_of_other_services(values: dict[str, Any]) -> None:
    release = render(values)
    for _, pod in release.pods():
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False
    assert all(one["automountServiceAccountToken"] is False for one in release.all("ServiceAccount"))


def test_each_role_has_a_service_account_of_its_own() -> None:
    accounts = {name: pod["spec"]["serviceAccountName"] for name, pod in render(MINIMAL).pods()}
    assert accounts["demo-call-processor-ingest"] == "demo-call-processor-ingest"
    assert accounts["demo-call-processor-worker"] == "demo-call-processor-worker"
    assert accounts["demo-call-processor-migrate"] == "demo-call-processor-setup"
    given = VARIANTS["everything, accounts that exist"]
    assert {pod["spec"]["serviceAccountName"] for _, pod in render(given).pods()} == {"given"}
    assert not render(given).all("ServiceAccount")


def test_both_roles_run_the_same_image_one_process_each_with_different_arguments() -> None:
    ingest, worker = (ours(deployment_pod(MINIMAL, role)) for role in ("ingest", "worker"))
    assert ingest["image"] == worker["image"]
    assert (ingest["command"], ingest["args"]) == (["call-processor"], ["ingest"])
    assert (worker["command"], worker["args"]) == (["call-processor"], ["worker"])


def test_traffic_and_admin_have_ports_of_their_own_above_1024() -> None:
    ports = {port["name"]: port["containerPort"] for port in ours(deployment_pod(MINIMAL, "ingest"))["ports"]}
    assert ports == {"http": 8080, "admin": 9464}
    assert settings(deployment_pod(MINIMAL, "ingest")).ingest.listen == "0.0.0.0:8080"
    assert settings(deployment_pod(VARIANTS["digest and IPv6"], "worker")).admin.listen == "[::]:9464"


@pytest.mark.parametrize("role", ["ingest", "worker"])
def test_a_pod_starts_slowly_dies_when_stuck_and_is_ready_when_the_role_says_so(role: str) -> None:
    container = ours(deployment_pod(MINIMAL, role))
    startup, live, ready = (container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness"))
    assert [probe["httpGet"] for probe in (startup, live, ready)] == [
        {"path": path, "port": "admin"} for path in ("/livez", "/livez", "/readyz")
    ]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120
    assert live["periodSeconds"] * live["failureThreshold"] >= 30


@variants
def test_what_is_begun_is_finished_before_the_pod_is_killed(values: dict[str, Any]) -> None:
    release = render(values)
    ingest = release.one("Deployment", "-ingest")["spec"]["template"]
    door = settings(ingest).ingest
    stopping_s = door.shutdown_wait_s + math.ceil(door.ack_timeout_s + CLOSING_READ_TIMEOUT_S) + door.ack_timeout_s
    assert ingest["spec"]["terminationGracePeriodSeconds"] >= stopping_s + 5
    worker = release.one("Deployment", "-worker")["spec"]["template"]
    assert worker["spec"]["terminationGracePeriodSeconds"] >= 2 * (DEAD_LETTER_TIMEOUT_S + SINK_DEADLINE_S) + 5


def test_the_door_is_not_ready_for_some_seconds_before_it_closes() -> None:
    """Load balancers need them; the process waits by itself, there is no pre-stop hook that would need a shell."""
    pod = deployment_pod({}, "ingest")
    assert settings(pod).ingest.shutdown_wait_s == 5
    assert "lifecycle" not in ours(pod)


@variants
def test_every_setting_that_a_pod_gets_is_known_and_the_program_takes_them(values: dict[str, Any]) -> None:
    for _, pod in render(values).pods():
        assert {name for name in environment(pod) if name.startswith(PREFIX)} <= names()
        settings(pod)


def test_the_chart_sets_no_variable_beside_settings() -> None:
    release = render(MINIMAL)
    assert not [name for _, pod in release.pods() for name in environment(pod) if not name.startswith(PREFIX)]


def test_every_required_setting_can_be_given() -> None:
    ingest, worker = (settings(deployment_pod(MINIMAL, role)) for role in ("ingest", "worker"))
    assert ingest.bootstrap_servers() == worker.bootstrap_servers() == "kafka.example:9092"
    assert str(ingest.ingest.keys_file) == "/etc/call-processor/keys/keys.toml"
    assert str(worker.postgres.dsn_file) == "/etc/call-processor/postgres/dsn"
    assert settings(deployment_pod(INLINE, "ingest")).ingest.auth_disabled is True


def test_every_setting_can_be_given_or_is_the_charts_own() -> None:
    """Those of `config` follow from the settings (test_generated.py); the others are what pods get besides."""
    release = render(VARIANTS["everything, inline"])
    given = {name for _, pod in release.pods() for name in environment(pod)}
    never = {f"{PREFIX}POSTGRES__DSN"}  # never in the environment: as a file
    assert {f"{PREFIX}{name}" for name in OWNED} - given == never


def test_numbers_reach_the_program_as_they_are() -> None:
    values = merged(
        MINIMAL,
        at("config.worker", {"batch_max_records": 1000000, "batch_max_age_s": 0.125, "breaker_run": 0}),
        at("config.ingest", {"max_record_bytes": 33554432, "keep_output": False, "linger_ms": 0.5}),
    )
    seen = settings(deployment_pod(values, "worker"))
    assert (seen.worker.batch_max_records, seen.worker.batch_max_age_s, seen.worker.breaker_run) == (1000000, 0.125, 0)
    assert (seen.ingest.max_record_bytes, seen.ingest.keep_output, seen.ingest.linger_ms) == (33554432, False, 0.5)


def test_large_numbers_of_kubernetes_stay_whole_numbers() -> None:
    release = render(VARIANTS["large numbers"])
    assert release.one("Deployment", "-worker")["spec"]["progressDeadlineSeconds"] == 7654321
    assert release.one("Job", "-migrate")["spec"]["activeDeadlineSeconds"] == 1234567
    assert deployment_pod(VARIANTS["large numbers"], "ingest")["spec"]["securityContext"]["runAsUser"] == 1000650000


def test_the_defaults_that_templates_repeat_are_those_of_the_program() -> None:
    """KEDA's topic and group, the size for the Ingress, the time to stop: see `call-processor.defaults`."""
    values = merged(MINIMAL, at("worker.keda.enabled", True), at("ingest.ingress", {"enabled": True, "hosts": ["a"]}))
    values = merged(values, at("config.ingest.shutdown_wait_s", None), at("ingest.resources.limits", None))
    release, program = render(values), Settings.model_construct()
    metadata = release.one("ScaledObject")["spec"]["triggers"][0]["metadata"]
    assert (metadata["topic"], metadata["consumerGroup"]) == (program.kafka.topic, program.kafka.group)
    assert [*release.one("Ingress")["metadata"]["annotations"].values()] == [str(program.ingest.max_body_bytes)]
    pod = release.one("Deployment", "-ingest")["spec"]["template"]
    assert settings(pod).ingest.max_in_flight_bytes == program.ingest.max_in_flight_bytes
    stop_s = program.ingest.shutdown_wait_s + 2 * program.ingest.ack_timeout_s + CLOSING_READ_TIMEOUT_S
    assert pod["spec"]["terminationGracePeriodSeconds"] == stop_s + 10


@pytest.mark.parametrize(("limit", "mib"), [("768Mi", 256), ("1.5Gi", 512), (402653184, 128), ("3G", 953)])
def test_what_the_door_holds_in_flight_follows_its_memory_limit(limit: object, mib: int) -> None:
    """A body, its record in librdkafka's queue, and the process: a third each. The queue itself never holds more than
    is in flight, and is as large as the default limit allows.
    """
    values = merged(MINIMAL, at("ingest.resources.limits.memory", limit))
    assert settings(deployment_pod(values, "ingest")).ingest.max_in_flight_bytes // MIB == mib
    assert settings(deployment_pod({}, "ingest")).ingest.max_in_flight_bytes == QUEUE_BYTES
    said = merged(values, at("config.ingest.max_in_flight_bytes", 100 * MIB))
    assert settings(deployment_pod(said, "ingest")).ingest.max_in_flight_bytes == 100 * MIB


@pytest.mark.parametrize("name", ["nothing", "ci/minimal", "ci/everything"])
def test_resources_are_asked_for_and_cpu_is_not_limited(name: str) -> None:
    for _, pod in render(VARIANTS[name]).pods():
        resources = ours(pod)["resources"]
        assert {*resources["requests"]} == {"cpu", "memory"}
        assert {*resources["limits"]} == {"memory"}
    assert "resources" not in ours(deployment_pod(VARIANTS["no resources"], "worker"))


def test_what_the_bench_measured_finds_room_in_what_is_asked_for_by_default() -> None:
    """Memory of every case of ours. A worker is one thread: its highest rate fits into the CPU of its request; doors
    are added before they are full.
    """
    sections, sizes = report.load(), {"Gi": 2**30, "Mi": 2**20}
    ours_alone = {"ingest": ("Door", "door", (door.ECHO, door.FASTAPI)), "worker": ("Worker", "worker", worker.OTHERS)}
    for role, (title, name, others) in ours_alone.items():
        results = [one for one in sections[title].results if not one.scenario.startswith(tuple(others))]
        asked = ours(deployment_pod({}, role))["resources"]["requests"]["memory"]
        peaks = [sample[f"{name} MiB"] for one in results for sample in one.samples if f"{name} MiB" in sample]
        assert len(peaks) > 20
        assert max(peaks) * MIB <= int(asked[:-2]) * sizes[asked[-2:]], f"{role} has met {max(peaks)} MiB"
    base = sections["Worker"].results[0]
    cores = base.median("events/s") * base.median("worker us") / 1e6
    assert cores <= float(ours(deployment_pod({}, "worker"))["resources"]["requests"]["cpu"])


def test_whatever_a_pod_needs_besides_is_passed_through() -> None:
    pod = deployment_pod(EVERYTHING, "ingest")
    spec, container = pod["spec"], ours(pod)
    assert environment(pod)["TZ"] == "UTC"
    assert environment(pod)["A"] == "from elsewhere"
    assert [*map(str, container["envFrom"])] == [
        "{'configMapRef': {'name': 'shared'}}", "{'secretRef': {'name': 'more', 'optional': True}}"
    ]  # fmt: skip
    assert {"name": "ca", "mountPath": "/etc/ssl/company", "readOnly": True} in container["volumeMounts"]
    assert {"name": "ca", "configMap": {"name": "company-ca"}} in spec["volumes"]
    assert [one["args"] for one in spec["initContainers"]] == [["demo"]]
    assert [one["name"] for one in spec["containers"]] == ["ingest", "beside"]
    assert spec["priorityClassName"] == "high"
    assert spec["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    assert spec["tolerations"][0]["key"] == "dedicated"
    assert "podAntiAffinity" in spec["affinity"]
    assert pod["metadata"]["labels"]["e"] == "f"
    assert pod["metadata"]["annotations"]["g"] == "h"
    deployment = render(EVERYTHING).one("Deployment", "-ingest")["metadata"]
    assert (deployment["labels"]["a"], deployment["annotations"]["c"]) == ("b", "d")


@pytest.mark.parametrize("role", ["ingest", "worker"])
def test_pods_spread_over_zones_and_nodes_revision_by_revision(role: str) -> None:
    constraints = deployment_pod(MINIMAL, role)["spec"]["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in constraints] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    for one in constraints:
        assert one["matchLabelKeys"] == ["pod-template-hash"]
        assert one["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == role
    own = [{"topologyKey": "rack", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule", "matchLabelKeys": ["a"]}]
    (changed,) = deployment_pod(merged(MINIMAL, at(f"{role}.topologySpreadConstraints", own)), role)["spec"][
        "topologySpreadConstraints"
    ]
    assert changed["matchLabelKeys"] == ["a"]


def test_roll_outs_keep_every_door_and_move_partitions_once_for_each_worker() -> None:
    release = render(MINIMAL)
    strategies = {role: release.one("Deployment", f"-{role}")["spec"]["strategy"] for role in ("ingest", "worker")}
    assert strategies["ingest"]["rollingUpdate"]["maxUnavailable"] == 0
    assert strategies["worker"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    recreated = render(VARIANTS["recreated"]).one("Deployment", "-worker")["spec"]["strategy"]
    assert recreated == {"type": "Recreate"}


@pytest.mark.parametrize("key", ["revisionHistoryLimit", "progressDeadlineSeconds", "minReadySeconds"])
def test_the_pace_of_roll_outs_can_be_set(key: str) -> None:
    for role in ("ingest", "worker"):
        spec = render(at(f"{role}.{key}", 77)).one("Deployment", f"-{role}")["spec"]
        assert spec[key] == 77


@variants
def test_arguments_and_environment_hold_no_secret(values: dict[str, Any]) -> None:
    """They are files: of a secret that exists, or of one that the chart makes from the values."""
    secret = "sw0rdfish"
    values = merged(values, at("postgres", {"dsn": f"postgresql://a:{secret}@b/c", "existingSecret": ""}))
    values = merged(values, at("kafka", {"properties": {"sasl.password": secret}, "existingSecret": ""}))
    release = render(values)
    assert secret in str(release.all("Secret"))
    assert secret not in str([one for one in release.manifests if one["kind"] != "Secret"]) + release.notes
