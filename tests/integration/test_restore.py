"""A backup, as the runbook takes it, and what a restored database does against a log that is newer."""

import json
import subprocess

import pytest

from processor.embedded.pginstall import installed
from tests.produce import Calls
from tests.stack import Installation

pytestmark = pytest.mark.stack


def postgres(program: str, *arguments: str) -> None:
    command = [str(installed() / "bin" / program), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr


def test_after_a_restore_the_workers_count_what_came_since_and_each_call_once(installation: Installation) -> None:
    dump, dsn = installation.folder / "calls.dump", installation.servers.dsn
    calls = Calls(installation, seed=11)
    calls.produce(60)
    first = installation.start_worker()
    installation.wait_until_counted()
    postgres("pg_dump", f"--schema={installation.name}", "--format=custom", f"--file={dump}", dsn)
    calls.produce(60)
    calls.repeat()
    installation.wait_until_counted()
    first.stop()
    installation.close_session()
    postgres("psql", "-X", dsn, "-c", f"DROP SCHEMA {installation.name} CASCADE")
    postgres("pg_restore", f"--dbname={dsn}", "--exit-on-error", str(dump))
    assert installation.rows("SELECT sum(calls) FROM outcome_totals") != [(calls.expected().calls,)]
    installation.start_worker()
    installation.wait_until_counted()
    assert installation.rows("SELECT sum(calls) FROM outcome_totals") == [(calls.expected().calls,)]
    found = json.loads(installation.output("verify", "--json"))
    assert (found["differences"], found["not_covered"]) == ([], [])
