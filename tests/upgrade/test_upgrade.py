"""An upgrade as the changelog says to do it: migrate, then workers one by one; and back, as far as workers go.

`schema_0001.whl` is the program that knows number 1 of the schema and no later one. When a release raises the number,
the wheel of the release before it takes its place.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from zipfile import ZipFile

import pytest

from processor.sinks.postgres.migrate import migrations
from tests.laws import assert_each_call_counted_once
from tests.produce import Calls, streaming
from tests.stack import Installation, Process, Servers, wait_until, wait_until_ready

pytestmark = pytest.mark.stack
WHEEL: Final = Path(__file__).parent / "schema_0001.whl"
WITHIN_S: Final = 30.0


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("former")
    with ZipFile(WHEEL) as wheel:
        wheel.extractall(folder)
    return folder


@contextmanager
def program(installation: Installation, folder: Path) -> Iterator[None]:
    """What is started meanwhile is the program in this folder, with the libraries of today."""
    installation.variables["PYTHONPATH"] = str(folder)
    try:
        yield
    finally:
        del installation.variables["PYTHONPATH"]


def test_the_former_program_knows_the_first_numbers_of_the_schema_and_not_all(former: Path) -> None:
    known = sorted(path.name for path in former.glob("processor/schemas/postgres/*.sql"))
    names = [migration.name for migration in migrations()]
    assert known == names[: len(known)]
    assert len(known) < len(names)


def test_old_and_new_workers_count_side_by_side_and_nothing_is_lost_or_doubled(
    servers: Servers, former: Path, tmp_path: Path
) -> None:
    installation = Installation(servers, tmp_path)
    installation.create_topics()
    installation.create_schema()
    try:
        with program(installation, former):
            installation.output("migrate")
            old = installation.start_worker()
        calls = Calls(installation, seed=1)
        calls.produce(500)
        installation.wait_until_counted()

        with streaming(calls):
            installation.output("migrate")
            installation.wait_until_counting()  # by the old one, in the new tables
            new = installation.start_worker()
            wait_until_both_count(installation, old, new)
            calls.repeat()  # what the other program has counted, too
            installation.wait_until_counting()
            old.stop()
            installation.wait_until_counting()

            with program(installation, former):  # the upgrade is taken back: workers, not the schema
                again = installation.start_worker()
            wait_until_both_count(installation, new, again)
            new.stop()
            calls.repeat()
        assert_each_call_counted_once(installation, calls.expected())
        assert "0 differences" in installation.output("verify")
    finally:
        installation.close()


def wait_until_both_count(installation: Installation, *workers: Process) -> None:
    """Each of two workers has written partitions of its own."""
    wait_until_ready(*workers)

    def two() -> bool:
        return installation.rows("SELECT count(DISTINCT owner_pid) FROM checkpoints") == [(len(workers),)]

    wait_until(two, within_s=WITHIN_S, what="each worker owns partitions")
    installation.wait_until_counting()
