"""What a release is checked for. Each check tells its problems, in sentences for whoever is about to release."""

import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from zipfile import ZipFile

import yaml

ROOT: Final = Path(__file__).parents[2]
# Beside the package, what an sdist holds: enough to build and to test nothing else.
SDIST_FILES: Final = frozenset({"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "PKG-INFO", ".gitignore"})
UPGRADE: Final = "### Upgrading"
ORDER: Final = ("migrate", "workers", "ingest")  # of an upgrade, as its notes must name it


def problems(root: Path, into: Path, tag: str | None = None) -> list[str]:
    """Of the tree in `root`; builds the sdist and the wheel in the folder `into`."""
    version = version_of(root)
    return [
        *_one_version(root, version, tag),
        *_changelog(root, version),
        *_contents(root, version, into),
    ]


def version_of(root: Path) -> str:
    match = re.search(r'^__version__ = "([^"]+)"$', (root / "processor" / "__init__.py").read_text(), re.MULTILINE)
    assert match is not None
    return match[1]


def _one_version(root: Path, version: str, tag: str | None) -> Iterator[str]:
    if tag is not None and tag != f"v{version}":
        yield f"the tag is {tag}, and the program says {version}"
    chart = root / "helm" / "Chart.yaml"
    if chart.exists() and (said := yaml.safe_load(chart.read_text())["appVersion"]) != version:
        yield f"helm/Chart.yaml says appVersion {said}, and the program says {version}"


def _changelog(root: Path, version: str) -> Iterator[str]:
    """An entry with a date, and notes that say in which order to upgrade."""
    text = (root / "CHANGELOG.md").read_text()
    entry = re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d{{2}}-\d{{2}}$(.*?)(?=^## \[|\Z)", text, re.MULTILINE | re.DOTALL
    )
    if entry is None:
        yield f"CHANGELOG.md has no entry `## [{version}] - <date>`"
        return
    notes = entry[1].partition(UPGRADE)[2].partition("\n### ")[0]
    places = [notes.find(step) for step in ORDER]
    if -1 in places or places != sorted(places):
        yield f"CHANGELOG.md, {version}: `{UPGRADE}` must name the steps in this order: {', '.join(ORDER)}"


def _contents(root: Path, version: str, into: Path) -> Iterator[str]:
    """The wheel is made from the sdist, as whoever builds it from there does."""
    build = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(into), str(root)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if build.returncode != 0:
        yield f"the package cannot be built: {build.stdout.strip().splitlines()[-1]}"
        return
    name = f"call_processor-{version}"
    tracked = _contracts_and_modules(root)
    with ZipFile(into / f"{name}-py3-none-any.whl") as wheel:
        held = {path for path in wheel.namelist() if not path.startswith(f"{name}.dist-info/")}
    yield from _differences("the wheel", held, tracked)
    with tarfile.open(into / f"{name}.tar.gz") as sdist:
        held = {member.name.removeprefix(f"{name}/") for member in sdist.getmembers() if member.isfile()}
    yield from _differences("the sdist", held - SDIST_FILES, tracked)


def _contracts_and_modules(root: Path) -> set[str]:
    """As an installation has them."""
    modules = {path.relative_to(root).as_posix() for path in (root / "processor").rglob("*") if _is_content(path)}
    schemas = {
        f"processor/{path.relative_to(root).as_posix()}" for path in (root / "schemas").rglob("*") if _is_content(path)
    }
    return {path for path in modules if not path.startswith("processor/schemas")} | schemas


def _is_content(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def _differences(what: str, held: set[str], expected: set[str]) -> Iterator[str]:
    if more := held - expected:
        yield f"{what} holds what it should not: {', '.join(sorted(more)[:5])}"
    if less := expected - held:
        yield f"{what} lacks: {', '.join(sorted(less)[:5])}"
