"""What is counted of a call, by rows; and that columns count the same where numbers are large."""

from collections.abc import Sequence
from typing import overload

import numpy as np
import pytest

from processor.calls import USAGE_FIELDS
from processor.counting.columns import CallColumns, ColumnCalls, Entries
from processor.counting.content import mix
from processor.counting.rows import content_hash, fold
from processor.counting.totals import CallKind, Outcome
from tests.factories import NOON_US, counted


def test_t1_a_nested_trace_is_kept_in_rows_of_its_own_so_that_leaves_can_be_told_from_parents() -> None:
    leaves = [counted(f"leaf-{n}") for n in range(3)]
    parent = counted("parent", usage={"gpt-4o": 30}, status_counts=[("success", 4)])
    root = counted("root", usage={"gpt-4o": 30}, status_counts=[("success", 5)])
    usage = fold([*leaves, parent, root]).usage
    hour = NOON_US // 3_600_000_000
    assert usage["acme/chat", hour, "gpt-4o", CallKind.LEAF][:2] == (3, 30)
    assert usage["acme/chat", hour, "gpt-4o", CallKind.ROLLUP][:2] == (2, 60)


def test_the_kind_is_the_sum_of_the_calls_own_status_counts() -> None:
    kinds = {
        (): CallKind.UNSTATED,
        (("success", 0),): CallKind.UNSTATED,
        (("success", -1),): CallKind.UNSTATED,
        (("success", 1), ("error", 0)): CallKind.LEAF,
        (("success", 2), ("error", -1)): CallKind.LEAF,
        (("success", 1), ("error", 1)): CallKind.ROLLUP,
        (("somebody's own", 1),): CallKind.LEAF,
    }
    assert {statuses: counted(status_counts=statuses).kind for statuses in kinds} == kinds


def test_t2_the_outcome_is_the_calls_own() -> None:
    assert counted(failed=True, status_counts=[("success", 1)]).outcome is Outcome.ERROR
    assert counted(status_counts=[("success", 3), ("error", 2)]).outcome is Outcome.DESCENDANT_ERROR
    assert counted(status_counts=[("success", 3), ("error", 0)]).outcome is Outcome.SUCCESS
    assert fold([counted(status_counts=[("success", 3), ("error", 2)])]).outcomes.popitem()[1] == 1


def test_t23_an_hour_is_ended_at_truncated_in_utc_also_before_1970() -> None:
    assert counted(ended_at_us=3_599_999_999).hour == 0
    assert counted(ended_at_us=3_600_000_000).hour == 1
    assert counted(ended_at_us=-1).hour == -1


def test_t13_negative_counts_are_summed_as_they_are() -> None:
    totals = fold([counted("a", usage={"m": 10}), counted("b", usage={"m": -25})])
    assert next(iter(totals.usage.values()))[:2] == (2, -15)


def test_t15_an_unknown_status_is_counted_under_its_own_name() -> None:
    assert {key[2]: count for key, count in fold([counted(status_counts=[("odd", 3)])]).statuses.items()} == {"odd": 3}


def test_the_content_hash_is_frozen_because_it_is_stored() -> None:
    assert mix(1) == 0x5692161D100B05E5
    assert content_hash(counted()) == -6129926760148256891


class Names(Sequence[str]):
    """As many as a batch can have, without the memory."""

    def __len__(self) -> int:
        return 2**31

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[str]: ...
    def __getitem__(self, at: int | slice) -> str | Sequence[str]:
        assert isinstance(at, int)
        return f"name-{at}"


def test_columns_group_rightly_however_many_names_there_are_and_however_far_apart_the_hours_lie() -> None:
    ended_at_us = (-(2**62), 2**62, 2**62)
    projects, models = (0, 2**31 - 1, 2**31 - 1), (0, 2**31 - 1, 2**31 - 2)
    call = np.arange(3)
    one_each = np.arange(4)
    columns = CallColumns(
        project=np.array(projects),
        projects=Names(),
        ids=[str(at) for at in call],
        id_times_ms=call,
        ended_at_us=np.array(ended_at_us),
        failed=np.zeros(3, np.bool_),
        usage=Entries(one_each, np.array(models), Names(), np.full((len(USAGE_FIELDS), 3), 5)),
        statuses=Entries(one_each, call, ["success", "error", "running"], np.ones((1, 3), np.int64)),
    )
    calls = ColumnCalls(columns, call, partitions=call, offsets=call, record_times_ms=call)
    assert calls.fold(set()).usage == {
        (f"name-{project}", time // 3_600_000_000, f"name-{model}", CallKind.LEAF): (1, *(5,) * len(USAGE_FIELDS))
        for project, time, model in zip(projects, ended_at_us, models, strict=True)
    }


@pytest.mark.parametrize("models", [0, 1, 146, 147])  # of 149 projects: 147 need more than 16 bits
@pytest.mark.parametrize("tokens", [0, 7])
def test_columns_count_what_rows_count_however_many_models_there_are(models: int, tokens: int) -> None:
    calls = [
        counted(f"call-{n}", project_id=f"project-{n:03}", usage={f"model-{n % models:03}": tokens} if models else {})
        for n in range(149)
    ]
    one_each = np.arange(len(calls) + 1)
    usage = np.array([counts for call in calls for _, counts in call.usage], np.int64).reshape(-1, len(USAGE_FIELDS))
    columns = CallColumns(
        project=one_each[:-1],
        projects=[call.project_id for call in calls],
        ids=[call.id for call in calls],
        id_times_ms=one_each[:-1],
        ended_at_us=np.full(len(calls), NOON_US),
        failed=np.zeros(len(calls), np.bool_),
        usage=Entries(
            one_each if models else one_each * 0,
            one_each[:-1] % models if models else one_each[:0],
            [f"model-{n:03}" for n in range(models)],
            usage.T,
        ),
        statuses=Entries(
            one_each * 2, np.tile([0, 1], len(calls)), ["success", "error"], np.tile([[1, 0]], len(calls))
        ),
    )
    found = ColumnCalls(columns, one_each[:-1], partitions=one_each, offsets=one_each, record_times_ms=one_each)
    assert found.fold(set()) == fold(calls)
