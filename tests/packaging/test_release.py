"""`make release-check` lets the tree pass that is ready, and says what is wrong with one that is not."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.release import __main__ as release
from tests.release.checks import ROOT, problems, version_of

VERSION = version_of(ROOT)
READY = f"""# Changelog

## [Unreleased]

## [{VERSION}] - 2026-01-02

### Added

- Something.

### Upgrading

Run `call-processor migrate`, then replace the workers, then ingest.

## [0.0.1] - 2025-01-01
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What is published, with a changelog that is ready."""
    root = tmp_path / "tree"
    root.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, root)
    for name in ("processor", "schemas"):
        shutil.copytree(ROOT / name, root / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "CHANGELOG.md").write_text(READY)
    return root


def test_a_tree_that_is_ready_is_built(tree: Path, tmp_path: Path) -> None:
    assert problems(tree, tmp_path / "dist", f"v{VERSION}") == []
    names = sorted(path.name for path in (tmp_path / "dist").iterdir())
    assert names == [f"call_processor-{VERSION}-py3-none-any.whl", f"call_processor-{VERSION}.tar.gz"]


def test_all_that_is_not_ready_is_said_at_once(tree: Path, tmp_path: Path) -> None:
    (tree / "CHANGELOG.md").write_text(READY.replace("then replace the workers, then ingest", "then ingest"))
    (tree / "helm").mkdir()
    (tree / "helm" / "Chart.yaml").write_text("appVersion: 9.9.9\n")
    (tree / "processor" / "left-over.csv").write_text("1")
    (tree / ".gitignore").write_text("left-over.csv\n")
    assert problems(tree, tmp_path / "dist", "v1.0") == [
        f"the tag is v1.0, and the program says {VERSION}",
        f"helm/Chart.yaml says appVersion 9.9.9, and the program says {VERSION}",
        f"CHANGELOG.md, {VERSION}: `### Upgrading` must name the steps in this order: migrate, workers, ingest",
        "the wheel lacks: processor/left-over.csv",
        "the sdist lacks: processor/left-over.csv",
    ]


def test_a_version_that_the_changelog_does_not_know_is_not_ready(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n")
    monkeypatch.setattr(release, "ROOT", tree)
    monkeypatch.setattr(sys, "argv", ["release"])
    assert release.main() == 1
    assert capsys.readouterr().out == f"not ready: CHANGELOG.md has no entry `## [{VERSION}] - <date>`\n"
