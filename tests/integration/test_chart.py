"""The chart's pods, without a cluster: command, arguments, environment and mounted files of a rendered manifest, run as
processes here against real servers.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from processor.embedded.ports import LOOPBACK, free_port
from tests.chart.helm import Manifest, Release, render
from tests.chart.pods import environment, ours
from tests.stack import MARK, Installation, Process, Servers, wait_until_ready

pytestmark = pytest.mark.stack

KEY = "a-key-of-the-test"
MOUNTED = "/etc/call-processor"


@dataclass(frozen=True, slots=True)
class Pod:
    """A rendered pod as a process: its mounts are folders here, its ports are free ones of this machine."""

    manifest: Manifest
    environment: dict[str, str]
    command: list[str]

    @property
    def admin(self) -> str:
        return self.environment["CALL_PROCESSOR_ADMIN__LISTEN"]


class PodProcess(Process):
    def __init__(self, pod: Pod, folder: Path, name: str) -> None:
        super().__init__([], folder=folder, name=name, environment=pod.environment)
        self._command = pod.command


class Node:
    """What a kubelet does with a pod, as far as one process needs it."""

    def __init__(self, release: Release, installation: Installation, secrets: dict[str, dict[str, str]]) -> None:
        self._installation = installation
        self._files = {one["metadata"]["name"]: one["stringData"] for one in release.all("Secret")} | secrets
        self._files |= {one["metadata"]["name"]: one["data"] for one in release.all("ConfigMap")}
        self.ports = {8080: free_port()}

    def pod(self, manifest: Manifest, name: str) -> Pod:
        root = self._installation.folder / f"pod-{name}"
        work = root / "work"
        work.mkdir(parents=True)
        volumes = {one["name"]: one for one in manifest["spec"]["volumes"]}
        for mount in ours(manifest)["volumeMounts"]:
            self._mount(volumes[mount["name"]], Path(f"{root}{mount['mountPath']}"))
        ports = {**self.ports, 9464: free_port()}

        def here(text: str) -> str:
            for inside, outside in ports.items():
                text = text.replace(f"0.0.0.0:{inside}", f"{LOOPBACK}:{outside}")
            return text.replace(MOUNTED, f"{root}{MOUNTED}").replace(
                "http://demo-call-processor-ingest:8080", f"http://{LOOPBACK}:{self.ports[8080]}"
            )

        path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", MARK: self._installation.name}
        return Pod(
            manifest,
            {**path, **{name: here(value) for name, value in environment(manifest).items()}},
            [here(one) for one in [*ours(manifest)["command"], *ours(manifest)["args"]]],
        )

    def _mount(self, volume: dict[str, Any], path: Path) -> None:
        path.mkdir(parents=True)
        name = volume.get("secret", {}).get("secretName") or volume.get("configMap", {}).get("name")
        for file, text in self._files[name].items() if name else ():
            (path / file).write_text(text)

    def run(self, manifest: Manifest, name: str) -> str:
        """To its end, which must be a good one; what it printed."""
        pod = self.pod(manifest, name)
        ended = subprocess.run(
            pod.command, env=pod.environment, cwd=self._installation.folder / f"pod-{name}/work",
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, f"{name}: {ended.stderr}"
        return ended.stdout

    def start(self, manifest: Manifest, name: str) -> PodProcess:
        process = PodProcess(self.pod(manifest, name), self._installation.folder / f"pod-{name}/work", name)
        process.launch()
        self._installation.processes.append(process)
        return process


@pytest.fixture
def bare(servers: Servers, tmp_path: Path) -> Iterator[Installation]:
    """A schema without tables, and no topic."""
    installation = Installation(servers, tmp_path)
    with psycopg.connect(servers.dsn) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(installation.name)))
    yield installation
    installation.close()


def values(installation: Installation) -> dict[str, Any]:
    return {
        "config": {
            "kafka": {
                "bootstrap_servers": installation.servers.bootstrap_servers,
                "topic": installation.topic,
                "group": installation.name,
            },
            "ingest": {"max_record_bytes": 8388608, "shutdown_wait_s": 0.5},
            "worker": {"session_timeout_s": 6, "batch_max_records": 1000000},
            "log": {"level": "debug"},
        },
        "postgres": {"dsn": installation.dsn},
        "kafka": {"properties": {"client.id": "from-the-chart", "socket.keepalive.enable": True}},
        "keys": {
            "file": f"[keys.test]\nsha256 = '{hashlib.sha256(KEY.encode()).hexdigest()}'\nprojects = ['helm-test/*']\n"
        },
        "topics": {"partitions": 4, "replicationFactor": 1},
        "helmTest": {"existingSecret": "test-key"},
    }


def test_the_pods_of_an_install_come_up_one_after_the_other_count_a_call_and_stop(bare: Installation) -> None:
    release = render(values(bare))
    node = Node(release, bare, secrets={"test-key": {"key": KEY}})
    jobs = {name: release.one("Job", f"-{name}")["spec"]["template"] for name in ("topics", "migrate")}
    assert f"{bare.topic}: created" in node.run(jobs["topics"], "topics")
    assert "applied 0001_totals.sql" in node.run(jobs["migrate"], "migrate")
    # As an upgrade runs them again.
    assert f"{bare.topic}: exists" in node.run(jobs["topics"], "topics-again")
    assert "nothing to do" in node.run(jobs["migrate"], "migrate-again")
    assert len(bare.end_offsets(bare.topic)) == 4

    roles = [
        node.start(release.one("Deployment", f"-{role}")["spec"]["template"], role) for role in ("ingest", "worker")
    ]
    wait_until_ready(*roles)
    printed = node.run(release.one("Pod"), "test")
    assert printed.splitlines()[-1] == "and the workers have counted it"
    assert bare.rows("SELECT project_id, calls_leaf FROM usage_hourly") == [("helm-test/demo", 1)]
    for process in roles:
        process.stop()
        assert process.poll() == 0, process.tail()
        assert [*process.log.parent.iterdir()] == [process.log], "it wrote where it may not"


@pytest.mark.parametrize(
    ("role", "said"),
    [("ingest", "nobody would be asked for credentials"), ("worker", "CALL_PROCESSOR_KAFKA__BOOTSTRAP_SERVERS is not")],
)
def test_without_any_value_a_pod_says_what_is_missing_and_ends(role: str, said: str, tmp_path: Path) -> None:
    manifest = render().one("Deployment", f"-{role}")["spec"]["template"]
    pod = {**environment(manifest), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    pod["CALL_PROCESSOR_ADMIN__LISTEN"] = f"{LOOPBACK}:{free_port()}"
    command = [*ours(manifest)["command"], *ours(manifest)["args"]]
    ended = subprocess.run(command, env=pod, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert said in ended.stderr


def test_helm_test_fails_with_a_sentence_when_the_door_refuses_its_key(bare: Installation) -> None:
    release = render(values(bare))
    node = Node(release, bare, secrets={"test-key": {"key": "another"}})
    for job in ("topics", "migrate"):
        node.run(release.one("Job", f"-{job}")["spec"]["template"], job)
    wait_until_ready(node.start(release.one("Deployment", "-ingest")["spec"]["template"], "ingest"))
    pod = node.pod(release.one("Pod"), "test")
    ended = subprocess.run(pod.command, env=pod.environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "the door answers 401" in ended.stderr
