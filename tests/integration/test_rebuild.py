"""`rebuild` while workers write: the tables end as the oracle says, whatever was wrong, and whoever killed it."""

from random import Random

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from processor.errors import ExitCode
from tests.laws import assert_totals_equal
from tests.parallel import beside_others
from tests.produce import Calls, streaming
from tests.stack import Installation, wait_until

pytestmark = pytest.mark.stack

# Wrong totals, and keys that are gone or that nobody has.
DAMAGE = (
    "UPDATE usage_totals SET total_tokens = total_tokens + 7 WHERE model = 'gpt-4o'",
    "UPDATE status_totals SET count = 0 WHERE status = 'success'",
    "DELETE FROM outcome_totals WHERE outcome = 'error'",
    "INSERT INTO outcome_totals (project_id, hour, outcome, call_kind, calls)"
    " VALUES ('zzz/zzz', '2026-01-01T00:00Z', 'success', 'leaf', 1)",
    "DELETE FROM seen_calls WHERE record_offset % 3 = 0",
    "UPDATE seen_calls_untimed SET record_offset = record_offset + 1000000",
)


def damage(installation: Installation) -> None:
    with psycopg.connect(installation.dsn, autocommit=True) as connection:
        for statement in DAMAGE:
            connection.execute(statement.encode())


def shadows(installation: Installation) -> int:
    with psycopg.connect(installation.dsn) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_namespace WHERE nspname = %s", (f"{installation.name}_rebuild",)
        ).fetchone()
    assert row is not None
    return int(row[0])


@beside_others()
def test_under_load_it_ends_with_what_the_log_says(installation: Installation) -> None:
    calls = Calls(installation, seed=1)
    calls.produce(300)
    installation.publish([b"no call", None])
    workers = [installation.start_worker() for _ in range(2)]
    installation.wait_until_counted()
    damage(installation)
    with streaming(calls):
        said = installation.output("rebuild", "--dry-run")
        assert "nothing was changed: a dry run" in said
        assert installation.rows("SELECT calls FROM outcome_totals WHERE project_id = 'zzz/zzz'") == [(1,)]
        assert "outcome_totals: " in installation.output("rebuild")
        installation.wait_until_counting()
    installation.wait_until_counted()
    assert_totals_equal(installation, calls.expected())
    assert shadows(installation) == 0
    calls.repeat()
    counters = installation.wait_until_counted()
    assert_totals_equal(installation, calls.expected())
    assert counters.counted == calls.expected().calls
    assert counters.records_read == counters.next_offset
    assert installation.run("verify").returncode == ExitCode.OK
    for worker in workers:
        assert worker.poll() is None, worker.tail()


@beside_others()
def test_killed_at_random_moments_it_leaves_the_live_tables_right_and_goes_on(installation: Installation) -> None:
    r = Random(5)
    calls = Calls(installation, seed=2)
    calls.produce(1500)
    installation.start_worker()
    installation.wait_until_counted()
    for number in range(6):
        calls.produce(30)
        process = installation.start("rebuild")
        wait_until(lambda: shadows(installation) or process.poll() is not None, within_s=20, what="it has begun")  # noqa: B023
        pause_s = r.uniform(0, 0.8) if number else 0
        with psycopg.connect(installation.dsn) as connection:
            connection.execute("SELECT pg_sleep(%s)", (pause_s,))
        process.kill()
        installation.wait_until_counted()
        assert_totals_equal(installation, calls.expected())
    damage(installation)
    calls.produce(30)
    installation.output("rebuild")
    calls.repeat()
    installation.wait_until_counted()
    assert_totals_equal(installation, calls.expected())
    assert installation.run("verify").returncode == ExitCode.OK


@beside_others()
def test_what_the_log_no_longer_covers_is_refused_or_kept(installation: Installation) -> None:
    calls = Calls(installation, seed=3)
    calls.produce(300)
    installation.start_worker()
    installation.wait_until_counted()
    admin = AdminClient({"bootstrap.servers": installation.servers.bootstrap_servers})
    places = [TopicPartition(installation.topic, p, end // 2) for p, end in installation.next_offsets().items()]
    for deleted in admin.delete_records(places).values():
        deleted.result(10)
    ended = installation.run("rebuild")
    assert (ended.returncode, "--keep-uncovered" in ended.stderr) == (ExitCode.PROTECT_NUMBERS, True), ended.stderr
    assert_totals_equal(installation, calls.expected())
    installation.output("rebuild", "--keep-uncovered")
    assert_totals_equal(installation, calls.expected())
    calls.repeat()  # what is no longer in the log is known all the same
    installation.wait_until_counted()
    assert_totals_equal(installation, calls.expected())
    assert_each_call_is_a_repeat(installation)


def assert_each_call_is_a_repeat(installation: Installation) -> None:
    counters = installation.wait_until_counted()
    assert counters.counted + counters.duplicates == counters.records_read
