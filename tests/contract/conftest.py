"""A database schema for each test, without topics: what a sink needs."""

import uuid

import psycopg
import pytest
from psycopg import sql

from processor.deadline import Deadline
from processor.sinks.postgres.migrate import migrate
from tests.stack import Servers


@pytest.fixture
def database(servers: Servers) -> str:
    """The DSN of a migrated schema of this test's own."""
    name = f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(servers.dsn) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    dsn = f"{servers.dsn}?options=-csearch_path%3D{name}"
    migrate(dsn, Deadline.after(20))
    return dsn
