"""`verify` finds every error that is planted, and is silent on the truth, while workers go on."""

import json
from typing import Any

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from processor.errors import ExitCode
from tests.group import metric
from tests.parallel import beside_others
from tests.produce import Calls, streaming
from tests.stack import Installation, wait_until

pytestmark = pytest.mark.stack

# What is planted; in which table `verify` must find it, and what is too much there (None: a whole row).
PLANTED = {
    "a token": (
        "UPDATE usage_totals SET prompt_tokens = prompt_tokens + 1 WHERE (project_id, hour, model, call_kind) ="
        " (SELECT project_id, hour, model, call_kind FROM usage_totals ORDER BY 1, 2, 3, 4 LIMIT 1)",
        ("usage_totals", {"prompt_tokens": 1}),
    ),
    "a call": (
        "UPDATE outcome_totals SET calls = calls - 1 WHERE (project_id, hour, outcome, call_kind) ="
        " (SELECT project_id, hour, outcome, call_kind FROM outcome_totals ORDER BY 1, 2, 3, 4 LIMIT 1)",
        ("outcome_totals", {"calls": -1}),
    ),
    "a status": (
        "UPDATE status_totals SET count = count + 1 WHERE (project_id, hour, status, call_kind) ="
        " (SELECT project_id, hour, status, call_kind FROM status_totals ORDER BY 1, 2, 3, 4 DESC LIMIT 1)",
        ("status_totals", {"count": 1}),
    ),
    "a missing row": (
        "DELETE FROM usage_totals WHERE (project_id, hour, model, call_kind) ="
        " (SELECT project_id, hour, model, call_kind FROM usage_totals ORDER BY 1 DESC, 2, 3, 4 LIMIT 1)",
        ("usage_totals", None),
    ),
    "an extra row": (
        "INSERT INTO outcome_totals (project_id, hour, outcome, call_kind, calls)"
        " VALUES ('zzz/zzz', '2026-01-01T00:00Z', 'success', 'leaf', 1)",
        ("outcome_totals", None),
    ),
}


def verify(installation: Installation, *options: str) -> tuple[int, dict[str, Any]]:
    ended = installation.run("verify", "--json", *options)
    assert ended.returncode in {ExitCode.OK, ExitCode.NUMBERS_DIFFER}, ended.stderr
    assert ended.stdout, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return ended.returncode, found


def assert_all_is_right(installation: Installation, *options: str) -> dict[str, Any]:
    code, found = verify(installation, *options)
    assert (code, found["differences"], found["counters"]) == (ExitCode.OK, [], [])
    return found


def plant(installation: Installation) -> None:
    with psycopg.connect(installation.dsn, autocommit=True) as connection:
        for statement, _ in PLANTED.values():
            assert connection.execute(statement.encode()).rowcount == 1


@beside_others()
def test_every_planted_error_is_found_and_the_truth_is_not_complained_of_while_workers_write(
    installation: Installation,
) -> None:
    calls = Calls(installation, seed=1)
    calls.produce(300)
    installation.publish([b"no call", None])
    for _ in range(2):
        installation.start_worker()
    installation.wait_until_counted()
    with streaming(calls):
        of_one_project = assert_all_is_right(installation, "--project", "acme/chat")["rows"]
        found = assert_all_is_right(installation)
        assert found["records"] > 300
        assert found["not_covered"] == []
        offsets = found["covered"]["offsets"].values()
        assert sum(end - start for start, end in offsets) == found["records"]
        assert found["covered"]["from"] <= found["covered"]["to"]
        assert of_one_project < found["rows"]
        plant(installation)
        code, found = verify(installation)
        assert code == ExitCode.NUMBERS_DIFFER
        assert found["counters"] == []
        wrong = [(one["table"], changed(one)) for one in found["differences"]]
        assert sorted(wrong, key=str) == sorted((said for _, said in PLANTED.values()), key=str)
        text = installation.run("verify")
        assert text.returncode == ExitCode.NUMBERS_DIFFER
        lines = text.stdout.splitlines()
        assert sum("usage_totals" in line for line in lines) == 2
        assert "zzz/zzz 2026-01-01T00:00:00Z success leaf: the row is one too many (calls 1)" in text.stdout
        assert lines[-2].startswith("covered: records that came from ")
        assert lines[-1].startswith("WRONG  ")


@beside_others()
def test_who_asks_about_a_project_or_a_topic_that_nobody_counted_is_not_told_ok(installation: Installation) -> None:
    Calls(installation, seed=5).produce(20)
    installation.leave_maintenance_to_the_test()
    installation.start_worker()
    installation.wait_until_counted()
    installation.output("maintain")  # a baseline, which would equal the totals
    assert_all_is_right(installation)
    unknown = installation.run("verify", "--project", "no/where")
    assert (unknown.returncode, unknown.stdout) == (ExitCode.USAGE, "")
    assert "have a call of project no/where" in unknown.stderr
    another = installation.run("verify", KAFKA__TOPIC=installation.dead_letter_topic)
    assert (another.returncode, another.stdout) == (ExitCode.DEPENDENCY, "")
    assert "do the settings name the right topic" in another.stderr


def changed(difference: dict[str, Any]) -> dict[str, int] | None:
    """By number, how much more is stored; None for a whole row."""
    stored, recounted = difference["stored"], difference["recounted"]
    if stored is None or recounted is None:
        return None
    return {name: stored[name] - recounted[name] for name in stored if stored[name] != recounted[name]}


@beside_others()
def test_from_a_baseline_on_everything_is_compared_and_what_the_log_lost_is_said(installation: Installation) -> None:
    calls = Calls(installation, seed=2)
    calls.produce(200)
    installation.leave_maintenance_to_the_test()
    worker = installation.start_worker()
    installation.wait_until_counted()
    assert "baseline taken: number 1" in installation.output("maintain")
    calls.produce(100)
    calls.repeat()
    installation.wait_until_counted()
    cut = installation.rows("SELECT partition, decided_to FROM baseline_offsets ORDER BY 1")
    delete_records(installation, dict(cut))
    found = assert_all_is_right(installation)
    assert found["baseline"] is not None
    assert any("are no longer in the log" in said for said in found["not_covered"])
    worker.stop()
    delete_records(installation, {partition: offset + 1 for partition, offset in cut})
    ended = installation.run("verify")
    assert ended.returncode == ExitCode.DEPENDENCY
    assert "nothing can be checked: partition" in ended.stderr


def delete_records(installation: Installation, before: dict[int, int]) -> None:
    """What retention does, at once."""
    admin = AdminClient({"bootstrap.servers": installation.servers.bootstrap_servers})
    places = [TopicPartition(installation.topic, partition, offset) for partition, offset in before.items()]
    for deleted in admin.delete_records(places).values():
        deleted.result(10)


@beside_others()
def test_conflicts_are_listed_with_both_contents_and_where_they_stand(installation: Installation) -> None:
    calls = Calls(installation, seed=3)
    calls.produce(1200)
    installation.start_worker()
    counters = installation.wait_until_counted()
    assert counters.conflicts == calls.expected().conflicts > 0
    listed = assert_all_is_right(installation, "--conflicts")["conflicts"]
    assert len(listed) == counters.conflicts
    for one in listed:
        first, later = one["first"], one["later"]
        assert first["content_hash"] != later["content_hash"]
        assert (first["partition"], first["offset"]) < (later["partition"], later["offset"])
    assert f"conflict {listed[0]['project_id']} {listed[0]['id']}: first " in installation.output(
        "verify", "--conflicts"
    )


@beside_others()
def test_the_workers_look_after_the_tables_by_themselves(installation: Installation) -> None:
    Calls(installation, seed=4).produce(50)
    worker = installation.start_worker()
    installation.wait_until_counted()
    wait_until(
        lambda: installation.rows("SELECT last_run_at FROM maintenance") != [(None,)], within_s=30, what="maintained"
    )
    wait_until(lambda: metric(worker, "tomorrow_exists") == 1, within_s=10, what="the metrics tell of it")
    assert 0 <= metric(worker, "maintenance_age_seconds") < 60
    assert installation.rows("SELECT number FROM baselines") == [(1,)]
    assert "baseline taken: none" in installation.output("maintain")
