"""What PostgreSQL's errors mean to a worker: wait and count later, set one record aside, or crash; never a wrong total.

One worker goes through all of them. Its role is no superuser and owns its schema, as in production.
"""

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql

from processor import dead_letters
from processor.calls import parse_call_end
from processor.codec.rows import encode
from processor.sample.oracle import expect
from tests.laws import assert_nothing_is_lost, assert_totals_equal
from tests.produce import HORIZON_DAYS, producer_of
from tests.stack import Installation, Process, Servers, installed, wait_until

pytestmark = pytest.mark.stack

CURSED: Final = "cursed"  # a model that the database of some tests does not take
PROJECT: Final = "acme/chat"
ENDED_AT: Final = datetime.now(UTC).isoformat()
WITHIN_S: Final = 10.0


@dataclass(slots=True)
class Counting:
    """A worker that has counted calls of one project, model and hour; what it must have counted by now."""

    installation: Installation
    worker: Process
    db: psycopg.Connection  # a superuser's
    good: list[dict[str, Any]] = field(default_factory=list)

    def post(self, calls: int = 10, model: str = "gpt-4o") -> list[dict[str, Any]]:
        """Put calls on the topic; they must be counted unless they are cursed."""
        ends = [
            {
                "project_id": PROJECT, "id": uuid.uuid4().hex, "ended_at": ENDED_AT,
                "summary": {"usage": {model: {"total_tokens": n}}, "status_counts": {"success": 1}},
            }
            for n in range(calls)
        ]  # fmt: skip
        producer = producer_of(self.installation)
        for end in ends:
            body = json.dumps({"end": end}).encode()
            value = encode(parse_call_end(body, now=datetime.now(UTC), horizon_days=HORIZON_DAYS))
            producer.produce(self.installation.topic, value, key=str(end["id"]).encode())
        assert producer.flush(WITHIN_S) == 0
        self.good += [] if model == CURSED else ends
        return ends

    def assert_exact(self) -> None:
        """All is counted, once; what was set aside is a letter."""
        self.installation.wait_until_counted(WITHIN_S)
        assert_totals_equal(self.installation, expect(self.good))
        assert_nothing_is_lost(self.installation)
        assert self.worker.poll() is None

    def wait_until_it_says(self, text: str, times: int = 1) -> None:
        wait_until(
            lambda: self.worker.log.read_text().count(text) >= times, within_s=WITHIN_S, what=f"the worker says {text}"
        )

    def said(self, text: str) -> int:
        return self.worker.log.read_text().count(text)

    def session(self) -> int:
        """The process id of the worker's session at the server."""
        row = self.db.execute("SELECT max(owner_pid) FROM checkpoints").fetchone()
        assert row is not None
        return int(row[0])

    @contextmanager
    def held(self) -> Iterator[psycopg.Connection]:
        """The rows of the totals are locked by this session, and the worker waits for it in the middle of a batch."""
        with psycopg.connect(self.db.info.dsn) as other:
            other.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(self.installation.name)))
            other.execute("SELECT FROM usage_totals FOR UPDATE")
            self.post()
            wait_until(lambda: self._waits_for(other), within_s=WITHIN_S, what="the worker waits for the lock")
            yield other

    def _waits_for(self, other: psycopg.Connection) -> bool:
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
        row = self.db.execute(blocked, (other.info.backend_pid,)).fetchone()
        return row is not None and row[0] > 0


@pytest.fixture(scope="module")
def counting(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counting]:
    role = f"r{uuid.uuid4().hex[:12]}"
    with psycopg.connect(servers.dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        admin.execute(sql.SQL("GRANT CREATE ON DATABASE postgres TO {}").format(sql.Identifier(role)))
        ours = Servers(servers.bootstrap_servers, servers.dsn.replace("postgres@", f"{role}@"))
        with installed(ours, tmp_path_factory.mktemp("sqlstates")) as installation:
            admin.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(installation.name)))
            counting = Counting(installation, installation.start_worker(), admin)
            counting.post()
            counting.assert_exact()
            yield counting


# --- what may pass


def test_a_row_that_somebody_holds_is_waited_for(counting: Counting) -> None:
    with counting.held():
        counting.wait_until_it_says("SQLSTATE 55P03")
    counting.assert_exact()


def test_a_deadlock_is_tried_again(counting: Counting) -> None:
    with counting.held() as other:
        other.execute("SET LOCAL deadlock_timeout = '10s'")  # it is the worker that finds it out, and gives way
        other.execute("SELECT FROM checkpoints FOR UPDATE")
    counting.wait_until_it_says("SQLSTATE 40P01")
    counting.assert_exact()


def test_a_statement_that_is_cancelled_is_tried_again(counting: Counting) -> None:
    with counting.held():
        counting.db.execute("SELECT pg_cancel_backend(%s)", (counting.session(),))
        counting.wait_until_it_says("SQLSTATE 57014")
    counting.assert_exact()


def test_a_session_that_is_ended_in_the_middle_of_a_batch_is_replaced(counting: Counting) -> None:
    with counting.held():
        before = counting.session()
        counting.db.execute("SELECT pg_terminate_backend(%s)", (before,))
        counting.wait_until_it_says("SQLSTATE 57P01")
    counting.assert_exact()
    assert counting.session() != before


def test_a_database_that_only_reads_is_waited_for(counting: Counting) -> None:
    """As after a fail-over. Sessions may be led elsewhere, so a new one is tried each time."""
    role = sql.Identifier(counting.installation.servers.dsn.partition("//")[2].partition("@")[0])
    counting.db.execute(sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(role))
    counting.db.execute("SELECT pg_terminate_backend(%s)", (counting.session(),))
    counting.post()
    counting.wait_until_it_says("SQLSTATE 25006", times=2)
    counting.db.execute(sql.SQL("ALTER ROLE {} RESET default_transaction_read_only").format(role))
    counting.assert_exact()


@contextmanager
def refused(counting: Counting, table: str, sqlstate: str, when: str = "true") -> Iterator[None]:
    """Writing a row of the table, where `when` holds for it, fails with this error."""
    counting.db.execute(
        f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN IF {when} THEN RAISE EXCEPTION 'hunter2' USING ERRCODE = '{sqlstate}'; END IF; RETURN NEW; END $$;"
        f" CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()".encode()
    )
    try:
        yield
    finally:
        counting.db.execute(f"DROP TRIGGER refuse ON {table}; DROP FUNCTION refuse()".encode())


def test_whatever_else_may_pass_is_tried_again(counting: Counting) -> None:
    """A connection that failed, a disk that is full, too little memory, too many sessions, serialization, start-up."""
    for sqlstate in ("08006", "53100", "53200", "53300", "40001", "57P03"):
        with refused(counting, "usage_totals", sqlstate):
            counting.post()
            counting.wait_until_it_says(f"SQLSTATE {sqlstate}")
        counting.assert_exact()


# --- values that the database does not take


def letters(counting: Counting, ends: Sequence[dict[str, Any]]) -> list[tuple[object, object]]:
    """Reason and detail of these calls' letters, each once."""
    ids = {str(end["id"]).encode() for end in ends}
    found = {}
    for letter in counting.installation.records(counting.installation.dead_letter_topic):
        if letter.key() in ids:
            said = dict(letter.headers() or ())
            found[letter.key()] = said[dead_letters.REASON], said[dead_letters.DETAIL]
    return list(found.values())


def test_a_record_that_breaks_a_constraint_is_found_and_set_aside_and_all_others_are_counted(
    counting: Counting,
) -> None:
    counting.db.execute(f"ALTER TABLE usage_totals ADD CONSTRAINT blessed CHECK (model <> '{CURSED}')")
    counting.post(20)
    cursed = counting.post(2, CURSED)
    counting.post(20)
    counting.assert_exact()
    why = b"the database cannot store it (SQLSTATE 23514, CheckViolation)"
    assert letters(counting, cursed) == [(b"invalid", why)] * 2
    assert counting.said("a defect: a record passed every check") == 2
    counting.db.execute("ALTER TABLE usage_totals DROP CONSTRAINT blessed")


def test_a_record_whose_value_is_refused_is_found_and_set_aside_and_all_others_are_counted(counting: Counting) -> None:
    with refused(counting, "usage_totals", "22003", when=f"NEW.model = '{CURSED}'"):
        counting.post(20)
        cursed = counting.post(1, CURSED)
        counting.post(20)
        counting.assert_exact()
    assert [reason for reason, _ in letters(counting, cursed)] == [b"invalid"]


# --- all the rest


def test_any_other_error_ends_the_worker_and_nothing_has_moved(counting: Counting) -> None:
    before = counting.installation.next_offsets()
    counting.db.execute("ALTER TABLE outcome_totals RENAME COLUMN calls TO renamed")
    counting.post()
    code, last = counting.worker.ended(WITHIN_S)
    assert code not in {None, 0}
    assert "SQLSTATE 42703" in last
    assert counting.installation.next_offsets() == before
    counting.db.execute("ALTER TABLE outcome_totals RENAME COLUMN renamed TO calls")
    counting.worker.launch()
    counting.assert_exact()


def test_a_law_that_a_batch_would_break_stops_the_worker(counting: Counting) -> None:
    before = counting.installation.next_offsets()
    with refused_law(counting):
        counting.post()
        code, last = counting.worker.ended(WITHIN_S)
        assert (code, "would break the law no_more" in last) == (4, True)
        assert counting.installation.next_offsets() == before
    counting.worker.launch()
    counting.assert_exact()


@contextmanager
def refused_law(counting: Counting) -> Iterator[None]:
    counting.db.execute("ALTER TABLE checkpoints ADD CONSTRAINT no_more CHECK (counted < 0) NOT VALID")
    try:
        yield
    finally:
        counting.db.execute("ALTER TABLE checkpoints DROP CONSTRAINT no_more")


def test_no_error_told_a_value(counting: Counting) -> None:
    assert "hunter2" not in counting.worker.log.read_text()
