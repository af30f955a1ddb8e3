"""Arrays of whole columns reach PostgreSQL as they are."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.sinks.postgres.arrays import Bigints, Texts, register
from tests.property.cases import LAW
from tests.stack import Servers

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
BIGINT = st.integers(-(2**63), 2**63 - 1)

Session = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def session(servers: Servers) -> Iterator[Session]:
    with psycopg.connect(servers.dsn, autocommit=True) as connection:
        register(connection.adapters)
        yield connection


@LAW
@given(texts=st.lists(TEXT, min_size=1), numbers=st.lists(BIGINT, min_size=1))
def test_what_is_sent_comes_back(session: Session, texts: list[str], numbers: list[int]) -> None:
    row = session.execute("SELECT %b, %b", (Texts(texts), Bigints(np.array(numbers, np.int64)))).fetchone()
    assert row == (texts, numbers)


def test_a_text_that_cannot_be_stored_is_refused_by_the_database(session: Session) -> None:
    with pytest.raises(psycopg.DataError):
        session.execute("SELECT %b", (Texts(["a\0b"]),))
