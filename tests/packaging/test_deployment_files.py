"""compose.yaml and the workflows: valid against their published schemas, and every name in them exists."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from processor.cli.main import COMMANDS
from processor.config import PREFIX, Settings
from processor.embedded.jars import KAFKA_VERSION
from processor.embedded.kafka import properties

ROOT: Final = Path(__file__).parents[2]
WORKFLOWS: Final = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE: Final = (ROOT / "Makefile").read_text()
SHELL: Final = {"apt-get", "bash", "make", "helm", "echo", "docker"}  # what the runners have


@pytest.mark.parametrize(
    ("schema", "files"), [("vendor.compose-spec", [ROOT / "compose.yaml"]), ("vendor.github-workflows", WORKFLOWS)]
)
def test_files_are_valid(schema: str, files: list[Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# --- compose.yaml


@cache
def compose() -> Any:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


OURS: Final = ("topics", "migrate", "ingest", "worker")


@pytest.mark.parametrize("name", OURS)
def test_the_settings_of_our_services_are_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in compose()["services"][name]["environment"].items():
        assert variable.startswith(PREFIX)
        monkeypatch.setenv(variable, value)
    Settings()


@pytest.mark.parametrize("name", OURS)
def test_our_services_run_a_command_as_a_strict_cluster_would(name: str) -> None:
    service = compose()["services"][name]
    assert service["command"][0] == name
    assert name in COMMANDS
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def test_nobody_else_reaches_what_asks_for_no_credentials() -> None:
    services = compose()["services"].values()
    ports = [port for service in services for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_paths_that_are_mounted_exist_and_so_do_volumes_configs_and_services() -> None:
    for name, service in compose()["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (ROOT / source).is_dir() if source.startswith("./") else source in compose()["volumes"], name
        for config in service.get("configs", ()):
            assert config["source"] in compose()["configs"], name
        assert set(service.get("depends_on", ())) <= set(compose()["services"]), name


def test_kafka_is_the_version_that_all_tests_run_on_and_its_properties_exist() -> None:
    service = compose()["services"]["kafka"]
    assert service["image"] == f"apache/kafka:{KAFKA_VERSION}"
    known = set(properties(Path("/data"), 1, 2, {})) | {"advertised.listeners", "log.dirs"}
    named = {name.removeprefix("KAFKA_").lower().replace("_", ".") for name in service["environment"]}
    assert named <= known


def test_prometheus_scrapes_and_grafana_reads_what_is_there() -> None:
    scraped = yaml.safe_load(compose()["configs"]["prometheus"]["content"])["scrape_configs"]
    assert {job["dns_sd_configs"][0]["names"][0] for job in scraped} == {"ingest", "worker"}
    admin = compose()["services"]["worker"]["environment"][f"{PREFIX}ADMIN__LISTEN"]
    assert {job["dns_sd_configs"][0]["port"] for job in scraped} == {int(admin.rpartition(":")[2])}
    sources = yaml.safe_load(compose()["configs"]["datasources"]["content"])["datasources"]
    assert {source["type"] for source in sources} == {"prometheus", "grafana-postgresql-datasource"}


# --- workflows


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request: pytest.FixtureRequest) -> Any:
    return yaml.safe_load(request.param.read_text())


def steps(workflow: Any) -> Iterator[Any]:
    for job in workflow["jobs"].values():
        yield from job.get("steps", ())


def test_actions_are_pinned_by_commit_with_their_version_beside_it() -> None:
    for path in WORKFLOWS:
        used = re.findall(r"^\s*(?:- )?uses: (.*)$", path.read_text(), re.MULTILINE)
        assert used
        for action in used:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action) or (ROOT / action).is_file(), action


def test_a_job_may_only_what_it_needs(workflow: Any) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "write-all" not in str(job.get("permissions", {}))
        if "write" in str(job.get("permissions", {})):
            assert job["environment"] == "release"


def test_no_checkout_leaves_its_token_behind(workflow: Any) -> None:
    for step in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_every_command_and_file_that_a_step_names_exists(workflow: Any) -> None:
    for step in steps(workflow):
        for line in step.get("run", "").splitlines():
            words = shlex.split(re.split(r"&&|<<<|>>", line)[-1 if "&&" in line else 0])
            words = [word for word in words if not re.fullmatch(r"[A-Z_]+=.*", word)] or [""]
            assert words[0] in SHELL, line
            if words[0] == "make":
                assert re.search(rf"^{words[1]}:", MAKEFILE, re.MULTILINE), line
            for word in words[1:]:
                if word.startswith((".ci/", "tests/", "requirements/")):
                    assert (ROOT / word).exists(), word


def test_inputs_of_actions_that_are_files_of_ours_exist(workflow: Any) -> None:
    for step in steps(workflow):
        for value in step.get("with", {}).values():
            if str(value).startswith("requirements/"):
                assert (ROOT / value).is_file()


def test_ci_runs_what_developers_run_and_a_release_runs_ci_first() -> None:
    ci, release = (
        yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text()) for name in ("ci.yml", "release.yml")
    )
    assert "bash .ci/run" in [step.get("run") for step in ci["jobs"]["checks"]["steps"]]
    assert release["jobs"]["ci"]["uses"] == "./.github/workflows/ci.yml"
    publishing = {name for name, job in release["jobs"].items() if "environment" in job}
    assert publishing == {"image", "chart", "package"}
    assert set(release["jobs"]["image"]["needs"]) == {"ci", "dist"}
    assert all(release["jobs"][name]["needs"] == ["image"] for name in publishing - {"image"})
