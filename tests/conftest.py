"""The shared stack: servers once a run, started by the first test that needs them; an installation for each test."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parallel import Runs, selected_runs
from tests.stack import Installation, Servers, embedded_servers, installed

pytest_plugins = ["tests.late"]
pytest.register_assert_rewrite("tests.laws")  # what differs is shown


def pytest_configure() -> None:
    """What runs in the background of a script ignores SIGINT, and so would all that tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Embedded, or with STACK=containers in containers; never by guessing, as a Docker that cannot pull hangs."""
    match os.environ.get("STACK", "embedded"):
        case "embedded":
            started = embedded_servers(tmp_path_factory.mktemp("stack"))
        case "containers":
            from tests.containers import container_servers  # noqa: PLC0415  # nobody else needs it

            started = container_servers()
        case other:
            pytest.fail(f"STACK={other}: the test servers are `embedded` or `containers`")
    with started as servers:
        yield servers


@pytest.fixture
def installation(servers: Servers, tmp_path: Path) -> Iterator[Installation]:
    """Topics and a migrated schema of this test's own; what it starts is stopped in the end."""
    with installed(servers, tmp_path) as installation:
        yield installation


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with selected_runs(request, servers, tmp_path_factory) as runs:
        yield runs
