"""The proof itself: what it draws, what its clients do, what its oracle says, and that it can say that all is wrong."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from pathlib import Path

import pytest

from processor.calls import parse_call_end
from processor.codec.rows import encode
from processor.sample.oracle import Tables
from processor.sample.oracle import expect as expected_of
from tests.chaos import clients, judge
from tests.chaos.clients import Clients, Fate, Outcomes
from tests.chaos.dispatch import TRIES, Dispatcher, Happened
from tests.chaos.document import put
from tests.chaos.faults import KINDS, Fault
from tests.chaos.judge import Checkpoint, Law
from tests.chaos.oracle import Expectation, Log, across_partitions, expect
from tests.chaos.posts import OTHER_CONTENT, Post, posts, request_body
from tests.chaos.report import Times
from tests.chaos.scene import Impossible
from tests.chaos.schedule import Kind, Planned, schedule
from tests.chaos.watch import Takeover, undisturbed
from tests.mutants.__main__ import COMMANDS
from tests.mutants.mutations import MUTATIONS, Edit, Mutation
from tests.mutants.scenarios import SCENARIOS

NOW = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


# what is drawn


def test_a_seed_decides_which_fault_happens_when_and_whom_it_hits() -> None:
    assert schedule(1, 50, KINDS) == schedule(1, 50, KINDS) != schedule(2, 50, KINDS)


def test_a_long_run_has_every_kind_of_fault_and_some_that_overlap() -> None:
    planned = schedule(1, 100, KINDS)
    assert {one.name for one in planned} == set(KINDS)
    assert planned == sorted(planned, key=lambda one: one.at_s)
    overlapping = [b for a, b in pairwise(planned) if b.at_s < a.at_s + a.hold_s]
    assert len(overlapping) > 25


def test_a_seed_gives_the_same_posts_again_and_numbers_them() -> None:
    first, again = (list(posts(1, NOW, 3000)) for _ in range(2))
    assert first == again
    assert [request_body(post) for post in first] == [request_body(post) for post in again]
    assert [post.number for post in first] == list(range(3000))
    valid = [post for post in first if post.call is not None]
    assert all(json.loads(request_body(post))["end"]["wb_run_step_end"] == post.number for post in valid)


def test_among_the_posts_are_repeats_bad_bodies_and_calls_that_are_disputed() -> None:
    found = list(posts(1, NOW, 3000))
    calls = [post.call for post in found if post.call is not None]
    assert len(calls) - len(set(calls)) > 50
    assert any(post.refusal for post in found)
    disputed = {post.call for post in found if post.disputed}
    for call in disputed:
        assert all(post.disputed for post in found if post.call == call)
    assert any(post.end["summary"] == OTHER_CONTENT["summary"] for post in found if post.disputed)


# the clients


@contextmanager
def door(answers: Sequence[int]) -> Iterator[tuple[tuple[str, int], list[int]]]:
    """Gives these answers in turn, the last for ever; 0 breaks the connection. Its address, and what it has given."""
    given: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            given.append(answers[min(len(given), len(answers) - 1)])
            if given[-1] == 0:
                self.close_connection = True
                return
            self.send_response(given[-1])
            self.send_header("Content-Length", "2")
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield ("127.0.0.1", server.server_port), given
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("answers", "fate", "attempts"),
    [
        ([200], Fate.ACKNOWLEDGED, 1),
        ([503, 429, 200], Fate.ACKNOWLEDGED, 3),
        ([0, 200], Fate.ACKNOWLEDGED, 2),
        ([422], Fate.REFUSED, 1),
        ([503, 413], Fate.REFUSED, 2),
        ([503], Fate.UNKNOWN, 3),
    ],
)
def test_a_client_tries_again_where_the_sdk_does_and_knows_only_what_it_was_told(
    answers: Sequence[int], fate: Fate, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "CONNECTIONS", 1)
    monkeypatch.setattr(clients, "LONGEST_PAUSE_S", 0.01)
    with door(answers) as (address, given):
        one = Clients([address], posts(1, NOW, 1), 1, rate_s=1000)
        one.start()
        one.stop_when_done()
    assert one.done
    assert Fate(one.outcomes.fates[0]) is fate
    assert (len(given), one.outcomes.attempts) == (attempts, attempts)
    assert one.outcomes.unanswered == given.count(0)


# the oracle


def valid_posts(amount: int = 4) -> list[Post]:
    return list(islice((post for post in posts(1, NOW, 1000) if post.call is not None and not post.disputed), amount))


def renumbered(found: Sequence[Post]) -> list[Post]:
    return [replace(post, number=n, end=post.end | {"wb_run_step_end": n}) for n, post in enumerate(found)]


def log_of(*records: tuple[int, int, Post | bytes | None]) -> Log:
    log = Log()
    for partition, offset, record in records:
        value = record
        if isinstance(record, Post):
            value = encode(parse_call_end(request_body(record), now=NOW, horizon_days=35))
        assert not isinstance(value, Post)
        log.read(partition, offset, value)
    return log


def outcomes(*fates: Fate) -> Outcomes:
    return Outcomes(bytearray(fates), refusals={n: 422 for n, fate in enumerate(fates) if fate is Fate.REFUSED})


def tables_of(*found: Post) -> Tables:
    return expected_of(post.end for post in found).tables


def settled(expectation: Expectation, log: Log, winners: dict[int, tuple[int, int]] | None = None) -> Expectation:
    expectation.settle(log, winners or {})
    return expectation


def test_a_call_is_expected_if_and_only_if_a_record_of_it_is_on_the_log() -> None:
    one, two, three, _ = found = renumbered(valid_posts())
    log = log_of((0, 0, one), (1, 0, two))
    expectation = expect(found, outcomes(Fate.ACKNOWLEDGED, Fate.UNKNOWN, Fate.UNKNOWN, Fate.UNSENT), log)
    assert not expectation.problems
    assert (expectation.calls, expectation.unknown_on_log, expectation.unknown_not_on_log) == (2, 1, 1)
    assert expectation.tables == tables_of(one, two)
    assert expectation.tables != tables_of(one, two, three)


def test_a_call_whose_attempts_arrived_twice_is_expected_once() -> None:
    one, *_ = found = renumbered(valid_posts(1))
    expectation = expect(found, outcomes(Fate.ACKNOWLEDGED), log_of((0, 0, one), (3, 7, one)))
    assert not expectation.problems
    assert expectation.tables == tables_of(one)


def test_an_acknowledged_post_that_is_not_on_the_log_is_a_loss() -> None:
    found = renumbered(valid_posts(1))
    expectation = expect(found, outcomes(Fate.ACKNOWLEDGED), log_of())
    assert expectation.lost == 1
    assert expectation.problems == ["post 0 was acknowledged and is not on the log"]


@pytest.mark.parametrize("fate", [Fate.REFUSED, Fate.UNSENT])
def test_what_was_never_accepted_must_not_be_on_the_log(fate: Fate) -> None:
    (one,) = found = renumbered(valid_posts(1))
    assert (
        "post 0 is on the log, although it was never accepted"
        in expect(found, outcomes(fate), log_of((0, 0, one))).problems
    )


def test_a_valid_call_must_not_be_refused() -> None:
    found = renumbered(valid_posts(1))
    assert expect(found, outcomes(Fate.REFUSED), log_of()).problems == ["post 0 got 422 in place of 200"]


def test_a_record_that_nobody_posted_or_that_names_another_call_is_found() -> None:
    one, two = found = renumbered(valid_posts(2))
    unknown = replace(one, end=one.end | {"wb_run_step_end": 99})
    other = replace(two, end=one.end | {"wb_run_step_end": 1})
    log = log_of((0, 0, one), (0, 1, unknown), (0, 2, other))
    assert expect(found, outcomes(Fate.ACKNOWLEDGED, Fate.ACKNOWLEDGED), log).problems == [
        "a record on the log is of no post of this run (99)",
        "the record of post 1 names another call",
    ]


def disputed() -> list[Post]:
    (one,) = valid_posts(1)
    return renumbered([replace(one, disputed=True), replace(one, disputed=True, end=one.end | OTHER_CONTENT)])


def test_of_a_disputed_call_the_first_on_its_partition_counts_whichever_was_posted_first() -> None:
    one, other = found = disputed()
    both = outcomes(Fate.ACKNOWLEDGED, Fate.ACKNOWLEDGED)
    for first, second in ((one, other), (other, one)):
        log = log_of((0, 3, first), (0, 4, second))
        expectation = expect(found, both, log)
        assert not across_partitions(expectation, log)
        assert settled(expectation, log).tables == tables_of(first)


def test_of_a_disputed_call_on_two_partitions_that_counts_which_the_dedupe_key_names() -> None:
    one, other = found = disputed()
    log = log_of((0, 3, one), (4, 0, other))
    for place, winner in (((0, 3), one), ((4, 0), other)):
        expectation = expect(found, outcomes(Fate.ACKNOWLEDGED, Fate.ACKNOWLEDGED), log)
        (call,) = across_partitions(expectation, log)
        assert settled(expectation, log, {call: place}).tables == tables_of(winner)
        assert not expectation.problems
    expectation = expect(found, outcomes(Fate.ACKNOWLEDGED, Fate.ACKNOWLEDGED), log)
    (call,) = across_partitions(expectation, log)
    assert settled(expectation, log, {call: (2, 2)}).problems


# the judgement


def test_conservation_is_judged_partition_by_partition_against_the_log() -> None:
    one, two = found = renumbered(valid_posts(2))
    log = log_of((0, 0, one), (0, 1, b"foreign"), (0, 2, None), (1, 0, two), (1, 1, two))
    expectation = expect(found, outcomes(Fate.ACKNOWLEDGED, Fate.ACKNOWLEDGED), log)
    good = [Checkpoint(0, 0, 3, 3, 1, 0, 0, 1, 1, 0), Checkpoint(1, 0, 2, 2, 1, 1, 0, 0, 0, 0)]
    ends = {0: 3, 1: 2}
    assert not list(judge.conservation(good, ends, log, expectation))
    for wrong in (
        [good[0]],
        [good[0], replace(good[1], counted=2, duplicates=0)],
        [good[0], replace(good[1], next_offset=1, records_read=1, duplicates=0)],
        [replace(good[0], dead_lettered=0, skipped=2), good[1]],
        [replace(good[0], gap_offsets=1, records_read=2), good[1]],
    ):
        assert [problem.law for problem in judge.conservation(wrong, ends, log, expectation)]


def test_a_takeover_lasts_until_every_partition_has_a_new_owner_and_moves_on() -> None:
    takeover = Takeover("killed", "worker 0", 10.0, {0: (1, 100), 3: (2, 50)})
    for places, at_s in (
        ({0: (2, 100), 3: (3, 60)}, 16.0),
        ({0: (1, 120), 3: (3, 60)}, 17.0),
        ({0: (2, 101), 3: (3, 60)}, 18.0),
        ({0: (2, 900), 3: (3, 900)}, 30.0),
    ):
        takeover.look(places, at_s)
    assert takeover.seconds == 8.0


def test_a_takeover_is_undisturbed_while_no_other_fault_lasts() -> None:
    takeover = Takeover("killed", "worker 0", 10.0, {}, ended_s=18.0)
    own = Happened("worker killed", "worker 0", 10.0, 12.0)
    assert undisturbed(takeover, [own, Happened("door killed", "ingest 1", 1.0, 9.0)])
    assert not undisturbed(takeover, [own, Happened("door killed", "ingest 1", 17.0, 19.0)])


def test_p99_is_told_from_thirty_takeovers_on() -> None:
    some = [Takeover("killed", "w", 0.0, {}, ended_s=float(n)) for n in range(1, 31)]
    assert Times.of(some) == Times(30, 15.5, 30.0, 30.0)
    assert Times.of(some[:29]).p99 is None


def test_many_problems_of_one_law_are_shown_by_some() -> None:
    shown = judge.some([judge.Problem(Law.TOTALS, str(n)) for n in range(9)])
    assert [problem.what for problem in shown] == ["0", "1", "2", "3", "4", "and 4 more"]


def test_a_report_is_put_where_the_document_names_its_command(tmp_path: Path) -> None:
    document = tmp_path / "proof.md"
    document.write_text(
        "a\n<!-- report of `one` -->\n<!-- /report -->\n<!-- report of `two` -->\n<!-- /report -->\nz\n"
    )
    put(document, "one", "first")
    put(document, "one", r"second \1")
    assert document.read_text(encoding="utf-8") == (
        "a\n<!-- report of `one` -->\n```text\nsecond \\1\n```\n<!-- /report -->\n"
        "<!-- report of `two` -->\n<!-- /report -->\nz\n"
    )
    with pytest.raises(LookupError, match="no place for this report"):
        put(document, "three", "")


# faults that wait


class Broken(Fault):
    kind = Kind(1, 0, 0)
    claims = frozenset({"broker"})

    def __init__(self, seen: list[str], name: str, possible: bool = True) -> None:
        self.seen, self.name, self.possible = seen, name, possible

    def inject(self) -> str:
        if not self.possible:
            raise Impossible("never")
        self.seen.append(f"{self.name} began")
        return self.name

    def heal(self) -> None:
        self.seen.append(f"{self.name} ended")


def test_two_faults_that_take_hold_of_one_thing_happen_one_after_the_other() -> None:
    seen: list[str] = []
    dispatcher = Dispatcher(lambda planned: Broken(seen, planned.name), lambda _: None)
    dispatcher.plan([Planned(0.0, "one", 5.0, 0.0), Planned(1.0, "two", 1.0, 0.0)])
    for now_s in (0.0, 1.0, 4.0, 5.0, 6.0):
        dispatcher.turn(now_s)
    assert seen == ["one began", "one ended", "two began", "two ended"]
    assert dispatcher.over
    assert [(one.began_s, one.ended_s) for one in dispatcher.happened] == [(0.0, 5.0), (5.0, 6.0)]


def test_a_fault_that_cannot_happen_is_tried_again_and_then_reported() -> None:
    dispatcher = Dispatcher(lambda planned: Broken([], planned.name, possible=False), lambda _: None)
    dispatcher.plan([Planned(0.0, "one", 5.0, 0.0)])
    for turn in range(TRIES):
        assert not dispatcher.over
        dispatcher.turn(turn * 10.0)
    assert dispatcher.over
    assert dispatcher.impossible == {"one": 1}


# mutants


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.guard)
def test_what_a_mutant_replaces_is_in_the_program_once(mutation: Mutation, tmp_path: Path) -> None:
    for edit in mutation.edits:
        path = tmp_path / edit.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((ROOT / "processor" / edit.file).read_text(encoding="utf-8"), encoding="utf-8")
        edit.apply(tmp_path)
        compile(path.read_text(encoding="utf-8"), edit.file, "exec")


def test_a_mutation_whose_text_is_gone_fails(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one\ntwo\ntwo\n", encoding="utf-8")
    for text in ("three", "two"):
        with pytest.raises(LookupError, match=text):
            Edit("a.py", text, "four").apply(tmp_path)


def test_every_mutant_has_its_proof() -> None:
    assert {mutation.proof for mutation in MUTATIONS} == {*COMMANDS, *SCENARIOS}
    assert {fault.name for faults in SCENARIOS.values() for fault in faults} <= set(KINDS)
