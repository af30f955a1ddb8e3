"""The Avro schema of a record's value, and the cut of it that the worker reads."""

import json
from importlib.resources import files
from typing import Any, Final

Schema = dict[str, Any]

LAST_COUNTED: Final = "summary"  # nothing behind this field of `end` is counted


def load() -> Schema:
    """The contract, schemas/call_end.v1.avsc, as it is written."""
    text = files("processor").joinpath("schemas/call_end.v1.avsc").read_text(encoding="utf-8")
    schema: Schema = json.loads(text)
    return schema


def cut(schema: Schema) -> Schema:
    """`schema` up to `summary`. Avro is a stream of fields: who stops there never touches `output`."""
    (end,) = schema["fields"]
    names = [field["name"] for field in end["type"]["fields"]]
    counted = end["type"]["fields"][: names.index(LAST_COUNTED) + 1]
    return schema | {"fields": [end | {"type": end["type"] | {"fields": counted}}]}


def maps_as_arrays(schema: Any, name: str = "") -> Any:
    """`schema` with array<record{key, value}> for each map: the same bytes, but a repeated key is seen."""
    if isinstance(schema, list):
        return [maps_as_arrays(branch, name) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    if schema["type"] == "record":
        fields = [field | {"type": maps_as_arrays(field["type"], field["name"])} for field in schema["fields"]]
        return schema | {"fields": fields}
    if schema["type"] == "map":
        value = maps_as_arrays(schema["values"])
        fields = [{"name": "key", "type": "string"}, {"name": "value", "type": value}]
        return {"type": "array", "items": {"type": "record", "name": f"{name}_entry", "fields": fields}}
    return schema


SCHEMA: Final = load()
CUT_SCHEMA: Final[Schema] = maps_as_arrays(cut(SCHEMA))
WHOLE_SCHEMA: Final[Schema] = maps_as_arrays(SCHEMA)


def without_logical_types(schema: Any) -> Any:
    """`schema` for a reader of microseconds: the same bytes."""
    if isinstance(schema, list):
        return [without_logical_types(branch) for branch in schema]
    if isinstance(schema, dict):
        return {key: without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
    return schema
