"""The sample is what it says, and its oracle can be trusted: it is checked by hand here, and against the other code."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from processor.calls import parse_call_end
from processor.codec.rows import decode_counted, encode
from processor.counting.rows import CountedCall, fold
from processor.errors import InvalidCall
from processor.sample.bad_bodies import bad_bodies
from processor.sample.oracle import expect
from processor.sample.posts import Post, sample
from processor.sample.sender import send
from processor.sample.stored import differences
from processor.sample.traces import added_up

NOW = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
HORIZON_DAYS = 35


def accepted(seed: int, calls: int = 600) -> list[dict[str, Any]]:
    return [post.parsed() for post in sample(seed, now=NOW, calls=calls) if post.expect == 200]


def end(**change: Any) -> dict[str, Any]:
    return {"project_id": "a/b", "id": "1", "ended_at": "2026-03-29T01:30:00Z", "summary": {}} | change


def leaf(tokens: int) -> dict[str, Any]:
    return {"usage": {"m": {"total_tokens": tokens}}, "status_counts": {"success": 1, "error": 0}}


def test_one_seed_gives_one_sample() -> None:
    assert sample(1, now=NOW, calls=200) == sample(1, now=NOW, calls=200)


def test_two_seeds_have_no_call_in_common() -> None:
    calls = [{post.call for post in sample(seed, now=NOW, calls=200) if post.call} for seed in (1, 2)]
    assert not calls[0] & calls[1]


def test_a_sample_has_as_many_calls_as_asked_for_and_every_shape_that_makes_totals_hard() -> None:
    ends = accepted(3, calls=2000)
    expected = expect(ends)
    kinds = Counter(kind for _, _, _, kind in expected.tables["usage_totals"])
    others = {(e["project_id"], e["id"]) for e in ends if e["project_id"] == "acme/other"}
    assert expected.calls == 2000 + len(others) > 2000
    assert expected.duplicates > expected.conflicts > 0
    assert min(kinds["leaf"], kinds["rollup"], kinds["unstated"]) > 0
    assert {key[2] for key in expected.tables["outcome_totals"]} == {"success", "error", "descendant_error"}
    assert {key[2] for key in expected.tables["status_totals"]} >= {"success", "error", "running", "descendant_error"}
    assert "" in {key[2] for key in expected.tables["usage_totals"]}
    assert {len(e["id"]) for e in ends} == {16, 36}


def test_nested_calls_are_kept_apart_because_a_plain_sum_counts_a_leaf_once_per_ancestor() -> None:
    leaves = [leaf(10) for _ in range(3)]
    middle = added_up([*leaves, {"status_counts": {"success": 1}}])
    root = added_up([middle, {"status_counts": {"success": 1}}])
    summaries = [*leaves, middle, root]
    usage = expect(end(id=str(i), summary=s) for i, s in enumerate(summaries)).tables["usage_totals"]
    tokens = {kind: numbers[6] for (_, _, _, kind), numbers in usage.items()}
    assert tokens == {"leaf": 30, "rollup": 60}
    assert root["status_counts"] == {"success": 5, "error": 0}


def test_the_first_of_a_call_wins_and_a_repeat_that_would_count_differently_is_a_conflict() -> None:
    again = [end(output="other"), end(summary={"usage": {"m": {}}}), end(ended_at="2026-03-29T03:00:00+02:00")]
    expected = expect([end(), *again])
    assert (expected.calls, expected.duplicates, expected.conflicts) == (1, 3, 1)
    assert not expected.tables["usage_totals"]


def test_the_same_id_in_another_project_is_another_call() -> None:
    assert expect([end(), end(project_id="a/c")]).calls == 2


@pytest.mark.parametrize(
    "ended_at", ["2026-03-29T01:59:59.999999", "2026-03-28T17:30-08:00", 1774746000, 1774746000000]
)
def test_hours_are_utc_whatever_the_spelling(ended_at: str | int) -> None:
    ((_, hour, _, _),) = expect([end(ended_at=ended_at)]).tables["outcome_totals"]
    assert hour == datetime(2026, 3, 29, 1, tzinfo=UTC)


def test_a_difference_is_shown_row_by_row() -> None:
    have, want = expect([end(), end(id="2")]).tables, expect([end()]).tables
    (line,) = differences(have, want)
    assert line.startswith("outcome_totals a/b 2026-03-29 01:00:00+00:00 success unstated: stored (2,), expected (1,)")
    assert not list(differences(want, want))


def test_the_door_takes_every_call_of_a_sample_and_refuses_every_bad_body() -> None:
    for post in sample(4, now=NOW, calls=600, bad=False):
        request = parse_call_end(post.body, now=NOW, horizon_days=HORIZON_DAYS)
        assert (request.end.project_id, request.end.id) == post.call
    for body, _, status in bad_bodies(NOW):
        if status == 422:
            with pytest.raises(InvalidCall):
                parse_call_end(body, now=NOW, horizon_days=HORIZON_DAYS)


@contextmanager
def door(answers: dict[bytes, list[int]]) -> Iterator[tuple[str, list[bytes]]]:
    """A door that gives each body's answers in turn, the last one for ever; 0 breaks the connection."""
    seen: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.append(body)
            status = answers[body].pop(0) if len(answers[body]) > 1 else answers[body][0]
            if status == 0:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("content-length", "2")
            self.send_header("retry-after", "0")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_sender_tries_again_what_may_succeed_and_nothing_else() -> None:
    with door({b"a": [503, 0, 429, 200], b"b": [422], b"c": [413], b"d": [503]}) as (url, seen):
        answers = send(url, [Post(body) for body in (b"a", b"b", b"c", b"d")], attempts=4)
    assert {answer.post.body: (answer.status, answer.attempts) for answer in answers} == {
        b"a": (200, 4), b"b": (422, 1), b"c": (413, 1), b"d": (503, 4)
    }  # fmt: skip
    assert len(seen) == 10


def test_the_sender_gives_up_without_a_status_when_nobody_listens() -> None:
    with door({}) as (url, _):
        pass
    (answer,) = send(url, [Post(b"a")], attempts=2)
    assert (answer.status, answer.attempts) == (None, 2)


def test_a_repeat_is_sent_only_after_the_first_was_answered() -> None:
    bodies = [json.dumps(number).encode() for number in range(20)]
    with door({body: [503, 200] for body in bodies}) as (url, seen):
        answers = send(url, [Post(body, call=("a/b", "1")) for body in bodies], connections=8)
    assert [answer.post.body for answer in answers] == bodies
    assert seen == [body for body in bodies for _ in range(2)]


def test_the_oracle_agrees_with_the_code_that_it_judges() -> None:
    """Each of the two was written without the other, so a mistake would have to be made twice."""
    firsts: dict[tuple[str, str], CountedCall] = {}
    for post in sample(5, now=NOW, calls=1000, bad=False):
        value = encode(parse_call_end(post.body, now=NOW, horizon_days=HORIZON_DAYS))
        call = decode_counted(value, record_time_ms=int(NOW.timestamp() * 1000), horizon_days=HORIZON_DAYS)
        firsts.setdefault((call.project_id, call.id), call)
    totals = fold(firsts.values())
    expected = expect(accepted(5, calls=1000))
    assert expected.calls == len(firsts)
    assert {at_hour(key): row for key, row in totals.usage.items()} == expected.tables["usage_totals"]
    assert {at_hour(key): (count,) for key, count in totals.statuses.items()} == expected.tables["status_totals"]
    assert {at_hour(key): (count,) for key, count in totals.outcomes.items()} == expected.tables["outcome_totals"]


def at_hour(key: tuple[str, int, str, str]) -> tuple[str, datetime, str, str]:
    project_id, hour, name, kind = key
    return project_id, datetime.fromtimestamp(hour * 3600, UTC), name, str(kind)
