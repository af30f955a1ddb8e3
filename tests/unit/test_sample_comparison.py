"""The demo says OK only if all is right, and shows what is not."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from processor.sample.comparison import Comparison
from processor.sample.oracle import TABLES, Rows, Tables, added, expect
from processor.sample.posts import sample
from processor.sample.printed import SHOWN, counters_line, sent_line, servers_line, table, verdict
from processor.sample.sender import Answer
from processor.sample.stored import Counters

NOW = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
FOREIGN = Counters(dead_lettered=3, skipped=1)


def empty() -> Tables:
    return {name: {} for name in TABLES}


def right(before: Tables | None = None) -> Comparison:
    """A run of which everything is stored as it must be, on top of `before`."""
    answers = [Answer(post, post.expect, 1) for post in sample(1, now=NOW, calls=300)]
    expected = expect(answer.post.parsed() for answer in answers if answer.status == 200)
    counters = Counters(
        counted=expected.calls,
        duplicates=expected.duplicates,
        conflicts=expected.conflicts,
        dead_lettered=FOREIGN.dead_lettered,
        skipped=FOREIGN.skipped,
    )
    before = before or empty()
    stored = added({name: dict(rows) for name, rows in before.items()}, expected.tables)
    return Comparison(answers, before=before, stored=stored, counters=counters, foreign=FOREIGN)


def test_a_run_that_is_right_is_told_so() -> None:
    run = right()
    rows = sum(map(len, run.stored.values()))
    (line,) = verdict(run.problems, run.expected)
    assert line == f"OK  stored totals equal what was sent: {run.expected.calls:,} calls, {rows:,} of {rows:,} rows"


def test_a_second_run_is_compared_with_what_was_there_before_and_what_was_sent() -> None:
    first = right()
    second = right(before=first.stored)
    assert not second.problems
    assert second.gained_usage() == first.gained_usage()


def test_a_row_too_many_missing_or_wrong_is_a_problem() -> None:
    run = right()
    for change in ({}, {"calls": 1}):
        rows = dict(run.stored["usage_totals"])
        key, numbers = rows.popitem()
        stored = run.stored | {"usage_totals": rows | ({key: (numbers[0] + 1, *numbers[1:])} if change else {})}
        (problem,) = replace(run, stored=stored).problems
        assert problem.startswith(f"usage_totals {key[0]}")
    others = run.stored | {"outcome_totals": run.stored["outcome_totals"] | {("a/b", NOW, "success", "leaf"): (1,)}}
    assert len(replace(run, stored=others).problems) == 1


@pytest.mark.parametrize("name", ["counted", "duplicates", "conflicts", "dead_lettered", "skipped"])
def test_a_counter_that_is_off_by_one_is_a_problem(name: str) -> None:
    run = right()
    for step in (-1, 1):
        counters = replace(run.counters, **{name: getattr(run.counters, name) + step})
        assert len(replace(run, counters=counters).problems) == 1


def test_more_repeats_than_were_sent_are_right_if_a_request_was_tried_again() -> None:
    run = right()
    answers = [replace(answer, attempts=2) for answer in run.answers]
    more = replace(run.counters, duplicates=run.counters.duplicates + 5)
    fewer = replace(run.counters, duplicates=run.counters.duplicates - 1)
    assert not replace(run, answers=answers, counters=more).problems
    assert len(replace(run, answers=answers, counters=fewer).problems) == 1


def test_another_status_than_expected_is_a_problem() -> None:
    run = right()
    refused = next(i for i, answer in enumerate(run.answers) if answer.status == 422)
    answers = [*run.answers[:refused], replace(run.answers[refused], status=None), *run.answers[refused + 1 :]]
    assert replace(run, answers=answers).problems == ["a request got no answer in place of 422"]


def test_many_problems_are_cut_short() -> None:
    lines = list(verdict(["one"] * 1000, right().expected))
    assert lines[0] == "WRONG  1,000 differences between what is stored and what was sent:"
    assert len(lines) == 1 + SHOWN


def test_the_lines_have_the_shape_that_documents_show() -> None:
    run = right()
    assert servers_line([("Kafka 4.3.1", "127.0.0.1:39092", 2.94)], "http://127.0.0.1:8080", 2) == (
        "Kafka 4.3.1 127.0.0.1:39092 (2.9 s) | ingest http://127.0.0.1:8080 | workers 2"
    )
    refused = sum(answer.status != 200 for answer in run.answers)
    assert sent_line(run.answers) == (
        f"sent {len(run.answers):,} | accepted {len(run.answers) - refused:,} | "
        f"refused {refused:,} (422: {refused - 4}, 413: 2, 415: 2)"
    )
    assert counters_line(Counters(duplicates=1234, conflicts=5, dead_lettered=3)) == (
        "duplicates 1,234 (5 of them conflicts) | dead letters 3 (foreign records)"
    )


def test_the_table_has_projects_and_models_by_tokens_with_columns_aligned_for_wide_letters() -> None:
    hour = NOW.replace(minute=0)
    rows: Rows = {
        ("acme/chat", hour, "gpt-4o", "leaf"): (2, 0, 0, 0, 0, 0, 1000, 0, 0),
        ("acme/chat", hour, "gpt-4o", "rollup"): (1, 0, 0, 0, 0, 0, 1000, 0, 0),
        ("bücher/索引", hour, "モデル", "leaf"): (1, 0, 0, 0, 0, 0, 3, 0, 0),
    }
    assert list(table(rows)) == [
        "PROJECT       MODEL    CALLS   TOKENS leaf   TOKENS as posted",
        "acme/chat     gpt-4o       3         1,000              2,000   <- parents repeat their children",
        "bücher/索引   モデル       1             3                  3",
    ]
