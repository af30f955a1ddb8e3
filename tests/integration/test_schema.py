"""The tables and views that readers and the sink agree on."""

import psycopg
import pytest

from processor.calls import USAGE_FIELDS
from tests.stack import Installation

pytestmark = pytest.mark.stack


def columns(installation: Installation, relation: str) -> list[str]:
    with psycopg.connect(installation.dsn) as connection:
        rows = connection.execute(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = current_schema AND table_name = %s ORDER BY ordinal_position",
            [relation],
        ).fetchall()
    return [name for (name,) in rows]


def test_every_counted_field_has_its_column_in_the_table_and_two_in_the_view(installation: Installation) -> None:
    names = {"project_id", "hour", "model", "call_kind", "calls", *USAGE_FIELDS, "updated_at"}
    assert set(columns(installation, "usage_totals")) == names  # a field that was added later stands at the end
    both = [f"{name}_{view}" for name in ("calls", *USAGE_FIELDS) for view in ("posted", "leaf")]
    assert columns(installation, "usage_hourly") == [
        "project_id", "hour", "model", *both, "rollup_share", "unstated_share"
    ]  # fmt: skip


def test_the_other_views_have_the_columns_that_are_promised(installation: Installation) -> None:
    assert columns(installation, "outcomes_hourly") == ["project_id", "hour", "outcome", "calls_posted", "calls_leaf"]
    assert columns(installation, "statuses_hourly") == ["project_id", "hour", "status", "count_posted", "count_leaf"]
