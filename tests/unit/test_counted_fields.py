"""The counted fields stand in several places, and a field that is in one of them only is lost on the way.

Whoever adds one begins here: the first test names every place where it is still missing.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from processor.calls import USAGE_FIELDS, LLMUsageSchema
from processor.codec.schema import CUT_SCHEMA, SCHEMA
from processor.sinks.postgres.read import VIEWS, Totals
from tests import dashboards

SCHEMAS = Path(__file__).parents[2] / "schemas"
SQL = re.sub(r"\s+", " ", "\n".join(path.read_text("utf-8") for path in sorted((SCHEMAS / "postgres").glob("*.sql"))))


def usage_record(schema: Any) -> dict[str, Any]:
    """LLMUsageSchema within an Avro schema, wherever it stands."""
    found = find_record(schema, "LLMUsageSchema")
    assert found is not None
    return found


def find_record(schema: Any, name: str) -> dict[str, Any] | None:
    if isinstance(schema, dict) and str(schema.get("name", "")).rpartition(".")[2] == name:
        return schema
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    return next((found for each in inner if (found := find_record(each, name))), None)


def counts_of(schema: Any) -> list[str]:
    return [field["name"] for field in usage_record(schema)["fields"] if field["name"] != "extra"]


def newest_avsc() -> Path:
    return max(SCHEMAS.glob("call_end.v*.avsc"), key=lambda path: int(path.suffixes[0].removeprefix(".v")))


def openapi() -> list[str]:
    document = yaml.safe_load((SCHEMAS / "openapi.yaml").read_text(encoding="utf-8"))
    return list(document["components"]["schemas"]["LLMUsageSchema"]["properties"])


def table() -> list[str]:
    """Numbers of usage_totals: as it was created, and what later files add."""
    (body,) = re.findall(r"CREATE TABLE usage_totals \((.*?)\) WITH", SQL)
    later = " ".join(re.findall(r"ALTER TABLE usage_totals (.*?);", SQL))
    added = re.findall(r"ADD COLUMN (?:IF NOT EXISTS )?(\w+) numeric", later)
    return [name for name in (*re.findall(r"(\w+) numeric NOT NULL", body), *added) if name != "calls"]


def view_sums(kind: str, sum_of: str) -> list[str]:
    """Fields of the last usage_hourly that are both computed rightly and let through to the reader."""
    columns, inner = re.findall(r"VIEW usage_hourly AS SELECT (.*?) FROM \((.*?)\) AS summed;", SQL)[-1]
    sums = re.findall(sum_of.replace("FIELD", r"(\w+)") + rf" AS (\w+)_{kind}\b", inner)
    computed = {name for field, name in sums if field == name}
    shown = [column.removesuffix(f"_{kind}") for column in columns.split(", ") if column.endswith(f"_{kind}")]
    return [name for name in shown if name in computed and name != "calls"]


def panel() -> list[str]:
    (query,) = (query for query in dashboards.sql() if query.panel == "Usage per project and model")
    shown = re.findall(r"sum\((\w+)_leaf\) AS \1_leaf, sum\(\1_posted\) AS \1_posted", query.text)
    return [name for name in shown if name != "calls"]


PLACES: dict[str, Callable[[], Sequence[str]]] = {
    "USAGE_FIELDS in processor/calls.py": lambda: USAGE_FIELDS,
    "class LLMUsageSchema in processor/calls.py": lambda: list(LLMUsageSchema.model_fields),
    "LLMUsageSchema in schemas/openapi.yaml": openapi,
    "the newest schemas/call_end.v*.avsc (never in one that was released: write the next)": lambda: counts_of(
        json.loads(newest_avsc().read_text(encoding="utf-8"))
    ),
    "the schema that processor/codec/schema.py loads (and its fingerprint in framing.py)": lambda: counts_of(SCHEMA),
    "the table usage_totals in schemas/postgres (in a new file)": table,
    "<field>_posted of the view usage_hourly in schemas/postgres (in a new file)": lambda: view_sums(
        "posted", r"sum\(FIELD\)"
    ),
    "<field>_leaf of the view usage_hourly in schemas/postgres (in a new file)": lambda: view_sums(
        "leaf", r"coalesce\(sum\(FIELD\) FILTER \(WHERE call_kind = 'leaf'\), 0\)"
    ),
    "the panel of all counts in helm/files/dashboards/usage.json": panel,
}


def test_a_counted_field_stands_in_all_its_places() -> None:
    """Adding one: CONTRIBUTING.md, "a counted field"."""
    fields = {place: tuple(read()) for place, read in PLACES.items()}
    missing = {
        name: [place for place, names in fields.items() if name not in names]
        for name in dict.fromkeys(name for names in fields.values() for name in names)
    }
    lines = [f"{name} is missing in:\n    " + "\n    ".join(places) for name, places in missing.items() if places]
    assert not lines, "a counted field must stand in all of its places\n" + "\n".join(lines)
    unsorted = [place for place, names in fields.items() if names != USAGE_FIELDS]
    assert not unsorted, f"the fields are not in the order of USAGE_FIELDS in: {'; '.join(unsorted)}"


def test_a_count_may_be_absent_in_the_model_and_in_every_form_of_the_schema() -> None:
    assert all(field.default is None for field in LLMUsageSchema.model_fields.values())
    for schema in (SCHEMA, CUT_SCHEMA):
        for field in usage_record(schema)["fields"][:-1]:
            assert (field["type"], field["default"]) == (["null", "long"], None), field["name"]
        assert usage_record(schema)["fields"][-1]["name"] == "extra", "a new count stands before extra"


def test_readers_get_every_counted_field() -> None:
    assert VIEWS[Totals.USAGE][2] == ("calls", *USAGE_FIELDS)
