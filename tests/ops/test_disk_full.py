"""PostgreSQL runs out of disk: calls wait in the log, and are counted when there is room again."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import psycopg
import pytest

from processor.embedded.postgres import EmbeddedPostgres
from tests.laws import assert_each_call_counted_once
from tests.produce import Calls, streaming
from tests.stack import Installation, http_status, installed, wait_until

pytestmark = [pytest.mark.ops, pytest.mark.timeout(200)]
ROOM: Final = "32m"
FULL_WITHIN_S: Final = 60.0
RECOVERED_S: Final = 40.0


def test_a_database_without_room_loses_nothing(installation: Installation) -> None:
    with EmbeddedPostgres(installation.folder / "postgres") as server, small_disk() as disk:
        tablespace_on(disk, server)
        with installed(replace(installation.servers, dsn=server.dsn), installation.folder) as own:
            calls = Calls(own, seed=1)
            worker = own.start_worker()
            with streaming(calls):
                own.wait_until_counting()
                filler = fill(disk)
                wait_until(
                    lambda: http_status(worker.admin, "/readyz") == 503, within_s=FULL_WITHIN_S, what="there is no room"
                )
                assert http_status(worker.admin, "/livez") == 200
                filler.unlink()
                wait_until(worker.is_ready, within_s=RECOVERED_S, what="the worker is ready again")
            assert_each_call_counted_once(own, calls.expected(), within_s=RECOVERED_S)
            assert "SQLSTATE 53100" in worker.log.read_text()
            assert worker.poll() is None


@contextmanager
def small_disk() -> Iterator[Path]:
    """Where any user may walk to."""
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.fail("a small disk is mounted for this test (mount -t tmpfs): run it as root on Linux")
    with tempfile.TemporaryDirectory(prefix="calls-disk-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        disk = folder / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM},mode=0777", "none", disk], check=True)
        try:
            yield disk
        finally:
            subprocess.run(["umount", "--lazy", disk], check=True)


def tablespace_on(disk: Path, server: EmbeddedPostgres) -> None:
    """Tables are made there; the server's own log of changes is not: without room for that it could not even stop."""
    place = disk / "tables"
    place.mkdir()
    owner = (server.data / "PG_VERSION").stat()
    os.chown(place, owner.st_uid, owner.st_gid)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
        connection.execute("ALTER DATABASE postgres SET default_tablespace = small")


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(64 * 1024))
    return filler
