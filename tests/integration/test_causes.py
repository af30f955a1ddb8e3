"""A checkpoint that is not as its owner left it: the four causes, and what the worker makes of each."""

from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest

from processor.deadline import Deadline
from processor.errors import ExitCode
from processor.sinks.base import LogIdentity, TakeOver
from processor.sinks.postgres.operate import adopt
from processor.sinks.postgres.write import PostgresSink
from tests.group import metric
from tests.laws import assert_each_call_counted_once, assert_nothing_is_lost, assert_totals_equal
from tests.parallel import beside_others
from tests.produce import Calls, streaming
from tests.proxy import Proxy
from tests.snapshot import Snapshot
from tests.stack import Installation, Process, wait_until

pytestmark = pytest.mark.stack
COMMIT = b"COMMIT\0"
PARTITION = 1


def sql(installation: Installation, statement: str) -> None:
    with psycopg.connect(installation.dsn) as connection:
        connection.execute(statement)


def log_of(installation: Installation) -> LogIdentity:
    (row,) = installation.rows("SELECT DISTINCT cluster_id, topic_id, topic, consumer_group FROM checkpoints")
    return LogIdentity(*row)


def epochs(installation: Installation) -> dict[int, int]:
    return dict(installation.rows("SELECT partition, epoch FROM checkpoints"))


def adopt_for(installation: Installation, group: str) -> None:
    adopt(installation.dsn, replace(log_of(installation), consumer_group=group), None, Deadline.after(10))


def said(worker: Process, what: str) -> int:
    return worker.log.read_text().count(what)


def refusal(worker: Process) -> str:
    code, sentence = worker.ended()
    assert code == ExitCode.PROTECT_NUMBERS, worker.tail()
    return sentence


# (c) another owner: first, because it takes longest


@beside_others()
def test_two_deployments_whose_rows_are_adopted_back_and_forth_are_stopped(installation: Installation) -> None:
    calls, times = Calls(installation, 1), 0
    worker = installation.start_worker()
    with streaming(calls):
        installation.wait_until_counting()
        while worker.poll() is None:
            before = epochs(installation)
            adopt_for(installation, "the other deployment")
            adopt_for(installation, installation.name)
            times += 1
            wait_until_above_or_given_up({p: epoch + 2 for p, epoch in before.items()}, installation, worker)
    assert "5 times within 60 s: two deployments write these tables" in refusal(worker)
    assert times == 5


@beside_others()
def test_another_owner_is_given_way_to_and_what_is_still_assigned_is_taken_again(installation: Installation) -> None:
    calls = Calls(installation, 1)
    worker = installation.start_worker()
    with streaming(calls):
        installation.wait_until_counting()
        other = PostgresSink(lambda: installation.dsn, log_of(installation))
        taken = other.take([TakeOver(PARTITION, 0)], Deadline.after(10))[PARTITION]
        wait_until(
            lambda: epochs(installation)[PARTITION] > taken.epoch, within_s=15, what="the worker has taken it again"
        )
        other.close()
        installation.wait_until_counting()
    assert_each_call_counted_once(installation, calls.expected())
    assert worker.is_ready()
    assert said(worker, "another owner has taken it") == 1


@beside_others()
def test_a_deployment_whose_rows_another_one_adopts_stops_and_the_other_one_counts_on(
    installation: Installation,
) -> None:
    calls, other = Calls(installation, 1), f"{installation.name}-2"
    worker = installation.start_worker()
    with streaming(calls):
        installation.wait_until_counting()
        adopt_for(installation, other)
        assert f"another consumer group ({other}) than this one ({installation.name})" in refusal(worker)
        installation.start_worker(KAFKA__GROUP=other)
        installation.wait_until_counting()
    assert_each_call_counted_once(installation, calls.expected())


def wait_until_above_or_given_up(least: dict[int, int], installation: Installation, worker: Process) -> None:
    def taken_or_given_up() -> bool:
        now = epochs(installation)
        return worker.poll() is not None or all(now[partition] > least[partition] for partition in least)

    wait_until(taken_or_given_up, within_s=20, what="the worker has taken its rows again, or has given up")


# (a) our own commit, whose answer was lost


@beside_others()
def test_a_commit_whose_answer_is_lost_is_recognised_and_nothing_is_counted_twice(installation: Installation) -> None:
    calls = Calls(installation, 1)
    address = installation.servers.dsn.split("@")[1].split("/")[0]
    with Proxy(address) as proxy:
        worker = installation.start_worker(POSTGRES__DSN=installation.dsn.replace(address, proxy.address))
        with streaming(calls):
            installation.wait_until_counting()
            for lost in (1, 2, 3):
                proxy.lose_answer(COMMIT)
                wait_until_lost(proxy, lost)
                installation.wait_until_counting()
        assert_each_call_counted_once(installation, calls.expected())
        counted = calls.expected().calls
        wait_until(
            lambda: metric(worker, "calls_counted_total") == counted, within_s=5, what="the metric is exact, too"
        )
        assert said(worker, "our commit had succeeded, its answer was lost") >= 3


def wait_until_lost(proxy: Proxy, answers: int) -> None:
    wait_until(lambda: proxy.answers_lost == answers, within_s=10, what=f"{answers} answers were lost")


# (b) the database went back in time


def restored(installation: Installation) -> None:
    """As a restored backup."""
    snapshot = Snapshot(installation.dsn)
    installation.wait_until_counting()
    snapshot.restore()


def restored_from_before_a_restart(installation: Installation) -> None:
    """Its epochs are lower, too."""
    snapshot = Snapshot(installation.dsn)
    (worker,) = installation.processes
    worker.stop()
    worker.launch()
    installation.wait_until_counting()
    snapshot.restore()


def with_a_row_less(installation: Installation) -> None:
    sql(installation, f"DELETE FROM checkpoints WHERE partition = {PARTITION}")


def with_a_lower_epoch(installation: Installation) -> None:
    sql(installation, f"UPDATE checkpoints SET epoch = epoch - 1 WHERE partition = {PARTITION}")


@beside_others(restored, restored_from_before_a_restart, with_a_row_less, with_a_lower_epoch)
def test_a_database_that_went_back_in_time_is_counted_from_there(
    installation: Installation, gone_back: Callable[[Installation], None]
) -> None:
    calls = Calls(installation, 1)
    worker = installation.start_worker()
    with streaming(calls):
        installation.wait_until_counting()
        gone_back(installation)
        installation.wait_until_counting()
    installation.wait_until_counted()
    assert_totals_equal(installation, calls.expected())
    assert_nothing_is_lost(installation)
    assert worker.is_ready()
    assert said(worker, "the database went back in time") >= 1


# (d) anything else


@beside_others()
def test_a_checkpoint_where_no_batch_leads_stops_the_worker(installation: Installation) -> None:
    calls = Calls(installation, 1)
    worker = installation.start_worker()
    calls.produce(100)
    installation.wait_until_counted()
    sql(installation, "UPDATE checkpoints SET next_offset = next_offset + 7, gap_offsets = gap_offsets + 7")
    assert "where no batch of its owner leads" in refusal(worker)
