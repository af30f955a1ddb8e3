"""The broker that refuses, for the tests that want to be refused."""

from collections.abc import Iterator

import pytest

from tests.guarded import Guarded, guarded_kafka


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded_kafka(tmp_path_factory.mktemp("guarded")) as guarded:
        yield guarded
