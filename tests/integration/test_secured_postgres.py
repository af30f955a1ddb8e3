"""Roles that may do what they must and nothing else, and TLS, to PostgreSQL."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg import errors

from processor.deadline import Deadline
from processor.embedded.postgres import EmbeddedPostgres
from processor.errors import Unavailable
from processor.sinks.postgres.connection import connect
from tests.certificates import Authority
from tests.laws import assert_each_call_counted_once
from tests.produce import Calls
from tests.secured_postgres import dsn_of, guarded_postgres, set_up, tls_front
from tests.stack import Installation, Process, Servers, wait_until_ready

pytestmark = pytest.mark.stack
GROUPS: Final = ("call_processor_worker", "call_processor_reader")
READER_READS: Final = {"usage_hourly", "outcomes_hourly", "statuses_hourly", "checkpoints", "migrations"}
WRITES: Final = {"INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"}
# What the worker writes, and whether it may delete.
WORKER_WRITES: Final = {
    "usage_totals": {"INSERT", "UPDATE"},
    "status_totals": {"INSERT", "UPDATE"},
    "outcome_totals": {"INSERT", "UPDATE"},
    "checkpoints": {"INSERT", "UPDATE"},
    "seen_calls": {"INSERT"},
    "seen_calls_untimed": {"INSERT", "DELETE"},
    "baselines": {"INSERT", "DELETE"},
    "baseline_offsets": {"INSERT", "DELETE"},
    "baseline_totals": {"INSERT", "DELETE"},
}


@dataclass(slots=True)
class Secured:
    server: EmbeddedPostgres
    installation: Installation
    calls: Calls
    worker: Process

    def dsn(self, role: str) -> str:
        return dsn_of(role, self.server_address, self.installation.folder)

    @property
    def server_address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def session(self, role: str) -> psycopg.Connection:
        return psycopg.connect(self.dsn(role), autocommit=True)

    def rights(self, role: str, kinds: set[str]) -> dict[str, set[str]]:
        """By table or view of the schema, those of these rights on the whole of it that the role has; days of keys
        aside, which nobody is given."""
        with psycopg.connect(self.installation.dsn) as connection:
            rows = connection.execute(
                "SELECT relname, kind FROM pg_class, unnest(%s::text[]) AS kind"
                " WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v')"
                " AND has_table_privilege(%s, pg_class.oid, kind)",
                (sorted(kinds), role),
            ).fetchall()
        return {table: {kind for name, kind in rows if name == table} for table, _ in rows}

    def output(self, role: str, *command: str) -> str:
        return self.installation.output(*command, POSTGRES__DSN=self.dsn(role))


@pytest.fixture(scope="module")
def secured(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Migrated and counted by roles of their own; nothing of ours came as a superuser."""
    folder = tmp_path_factory.mktemp("secured")
    with guarded_postgres(folder / "server") as server:
        installation = Installation(Servers(servers.bootstrap_servers, server.dsn), folder)
        installation.create_topics()
        set_up(server, installation.name)
        calls = Calls(installation, seed=3)
        try:
            migrate = {"POSTGRES__DSN": dsn_of("calls_migrate", f"127.0.0.1:{server.port}", folder)}
            assert installation.output("migrate", **migrate).splitlines()[-2:] == [f"granted to {r}" for r in GROUPS]
            installation.leave_maintenance_to_the_test()
            worker = installation.start_worker(POSTGRES__DSN=dsn_of("calls_worker", f"127.0.0.1:{server.port}", folder))
            wait_until_ready(worker)
            calls.produce(100)
            yield Secured(server, installation, calls, worker)
        finally:
            installation.close()


def test_a_worker_that_owns_nothing_counts_and_looks_after_the_tables(secured: Secured) -> None:
    assert_each_call_counted_once(secured.installation, secured.calls.expected())
    assert "baseline" in secured.output("calls_worker", "maintain")
    assert "OK" in secured.output("calls_worker", "verify")


def test_totals_are_counted_again_by_the_owner_while_the_worker_goes_on(secured: Secured) -> None:
    with psycopg.connect(secured.server.dsn) as connection:
        connection.execute("GRANT CREATE ON DATABASE postgres TO calls_migrate")
    secured.output("calls_migrate", "rebuild")
    secured.calls.produce(50)
    assert_each_call_counted_once(secured.installation, secured.calls.expected())
    assert secured.worker.poll() is None


def test_nobody_needs_more_than_a_role_has_by_default(secured: Secured) -> None:
    with psycopg.connect(secured.installation.dsn) as connection:
        privileged = connection.execute(
            "SELECT rolname FROM pg_roles WHERE (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication"
            " OR rolbypassrls) AND rolname <> 'postgres'"
        ).fetchall()
        owners = connection.execute(
            "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = current_schema()"
        ).fetchall()
    assert (privileged, owners) == ([], [("calls_migrate",)])


def test_the_reader_reads_the_views_and_writes_nothing(secured: Secured) -> None:
    assert "acme/" in secured.output("calls_reader", "usage", "--by", "total")
    assert "unaccounted records: 0" in secured.output("calls_reader", "status")
    assert secured.rights("calls_reader", WRITES) == {}
    assert secured.rights("calls_reader", {"SELECT"}).keys() == READER_READS
    with secured.session("calls_reader") as session:
        for statement in (
            "INSERT INTO outcome_totals VALUES ('a/b', now(), 'success', 'leaf', 1)",
            "UPDATE checkpoints SET next_offset = 0",
            "DELETE FROM usage_totals",
            "SELECT hash_seed FROM installation",
            "SELECT FROM seen_calls",
            "SELECT create_key_day('2026-01-01')",
            "CREATE TABLE mine ()",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                session.execute(statement.encode())


def test_the_worker_has_no_ddl_beyond_days_of_keys(secured: Secured) -> None:
    assert secured.rights("calls_worker", WRITES) == WORKER_WRITES
    with secured.session("calls_worker") as session:
        for statement in (
            "CREATE TABLE mine ()",
            "DROP TABLE seen_calls_untimed",
            "ALTER TABLE usage_totals ADD COLUMN mine text",
            "TRUNCATE usage_totals",
            "CREATE INDEX mine ON usage_totals (hour)",
            "CREATE OR REPLACE FUNCTION drop_key_day(day date) RETURNS void LANGUAGE sql AS ''",
            "UPDATE installation SET hash_seed = ''",
            "DELETE FROM usage_totals",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                session.execute(statement.encode())
        session.execute("SELECT create_key_day('2031-05-17')")
        # A floor of the worker's own, where names are looked up first as a rule.
        session.execute("CREATE TEMP TABLE installation AS SELECT date '2100-01-01' AS key_floor")
        with pytest.raises(errors.RaiseException, match="not below the floor"):
            session.execute("SELECT drop_key_day('2031-05-17')")


def test_a_role_without_rights_is_told_so(secured: Secured) -> None:
    with psycopg.connect(secured.server.dsn) as connection:
        connection.execute("REVOKE call_processor_reader FROM calls_reader")
        try:
            connection.commit()
            ended = secured.installation.run("usage", POSTGRES__DSN=secured.dsn("calls_reader"))
        finally:
            connection.execute("GRANT call_processor_reader TO calls_reader")
    assert (ended.returncode, "no schema of the search_path exists for this role" in ended.stderr) == (3, True)
    ended = secured.installation.run("resume", POSTGRES__DSN=secured.dsn("calls_reader"))
    assert (ended.returncode, "(permission denied for table checkpoints)" in ended.stderr) == (3, True), ended.stderr


def test_tls_needs_our_authority_the_right_name_and_a_client_certificate(secured: Secured, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ours")
    other = Authority(tmp_path / "other")
    client = authority.issue(tmp_path, "client", "client.test", common_name="calls_reader")
    trusted = {"sslmode": "verify-full", "sslrootcert": authority.file}
    certificate = {"sslcert": client.certificate, "sslkey": client.key}
    right, wrong = (server_context(authority, tmp_path / n, n) for n in ("127.0.0.1", "db.example"))
    with tls_front(secured.server_address, right) as address, tls_front(secured.server_address, wrong) as elsewhere:
        dsn = dsn_of("calls_reader", address, tmp_path, **trusted, **certificate)
        with connect(dsn, Deadline.after(10)) as session:
            assert session.pgconn.ssl_in_use
        plain = secured.server_address
        for where, parameters in (
            (address, {**trusted, **certificate, "sslrootcert": other.file}),
            (elsewhere, {**trusted, **certificate}),
            (address, trusted),
            (plain, {**trusted, **certificate}),
        ):
            with pytest.raises(Unavailable, match="TLS to PostgreSQL fails"):
                connect(dsn_of("calls_reader", where, tmp_path, **parameters), Deadline.after(10))


def server_context(authority: Authority, folder: Path, name: str) -> ssl.SSLContext:
    folder.mkdir()
    issued = authority.issue(folder, "server", name)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    context.load_cert_chain(issued.certificate, issued.key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
