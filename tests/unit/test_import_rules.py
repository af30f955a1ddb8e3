"""Who may import whom, as one table; what pure modules must not touch; who may read the environment."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "processor"
FILES = sorted(path for path in ROOT.rglob("*.py") if "schemas" not in path.relative_to(ROOT).parts)

# These lie below everything else, each above those to its left. Beside them a sub-package, or a module at the root
# (""), imports only what is named here: the contract of sinks, never a sink.
BELOW = ("counting", "codec", "kafka")
SIDEWAYS = {"worker": {"sinks.base"}, "audit": {"sinks.base"}, "": {"sinks.base"}}
PURE = ("calls.py", "limits.py", "refusals.py", "counting/", "batch.py", "codec/")
IMPURE = {
    "asyncio", "confluent_kafka", "http", "io.open", "logging", "os", "pathlib", "prometheus_client", "psycopg",
    "random", "secrets", "socket", "structlog", "subprocess", "sys", "tempfile", "threading", "time", "urllib",
    "processor.config", "processor.deadline", "processor.logs", "processor.metrics",
}  # fmt: skip
CLOCKS = {"now", "utcnow", "today"}
# Who asks the wall clock what time it is: for the age of calls and keys, and of what is stored, never for a timeout.
WALL_CLOCKS = {"ingest/app.py"}
ENVIRONMENT = {"environ", "environb", "getenv"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Every module (or name in a module) that this file imports, dotted and absolute."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def sub_package(path: Path) -> str:
    """`worker` for worker/loop.py, "" for a module at the root."""
    return path.relative_to(ROOT).parts[0] if path.parent != ROOT else ""


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_sub_packages_import_only_downwards(path: Path) -> None:
    own = sub_package(path)
    if own == "cli" or path.name == "__main__.py":
        return
    below = BELOW[: BELOW.index(own)] if own in BELOW else BELOW
    packages = {p.name for p in ROOT.iterdir() if p.is_dir()} - {*below, own, "schemas", "__pycache__"}
    others = {f"processor.{package}" for package in packages}
    allowed = {f"processor.{module}" for module in SIDEWAYS.get(own, set())}
    assert not [m for m in imports(path) if is_within(m, others) and not is_within(m, allowed)]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_kafka_package_knows_the_client_library(path: Path) -> None:
    assert sub_package(path) == "kafka" or not [m for m in imports(path) if is_within(m, {"confluent_kafka"})]


@pytest.mark.parametrize("path", [p for p in FILES if name_of(p).startswith(PURE)], ids=name_of)
def test_pure_modules_touch_neither_log_nor_metric_nor_clock_nor_outside_world(path: Path) -> None:
    assert not [module for module in imports(path) if is_within(module, IMPURE)]
    calls = [node.func for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    assert not [f.id for f in calls if isinstance(f, ast.Name) and f.id in {"open", "print", "input"}]
    assert not [f.attr for f in calls if isinstance(f, ast.Attribute) and f.attr in CLOCKS]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_settings_read_the_environment(path: Path) -> None:
    """Handing the whole environment on to a child is no reading: `{**os.environ, ...}`."""
    if name_of(path) == "config.py":
        return
    assert not [m for m in imports(path) if is_within(m, {f"os.{name}" for name in ENVIRONMENT})]
    handed_on = {
        id(value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if key is None
    }
    reads = [
        node.lineno
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT and id(node) not in handed_on
    ]
    assert not reads, f"{name_of(path)} reads the environment in lines {reads}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_timeout_follows_the_wall_clock(path: Path) -> None:
    """It may jump. Commands read it once, for what they show and ask for."""
    if sub_package(path) == "cli" or name_of(path) in WALL_CLOCKS:
        return
    attributes = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)]
    assert not [node.attr for node in attributes if node.attr in CLOCKS]
    assert not [node for node in attributes if ast.unparse(node) in {"time.time", "time.time_ns"}]
