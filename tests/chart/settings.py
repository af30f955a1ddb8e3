"""The settings of the program as the chart knows them: the schema of `config`, and who sets what else."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from processor.config import PREFIX, Settings

# Not in `config`: the chart sets them, from the values named here.
OWNED: Final[Mapping[str, str]] = {
    "KAFKA__PROPERTIES_FILE": "kafka",
    "POSTGRES__DSN": "postgres (as a file)",
    "POSTGRES__DSN_FILE": "postgres",
    "INGEST__LISTEN": "listenHost",
    "INGEST__KEYS_FILE": "keys",
    "ADMIN__LISTEN": "listenHost",
}


def sections() -> dict[str, type[BaseModel]]:
    return {name: type(section) for name, section in Settings.model_construct() if isinstance(section, BaseModel)}


def names() -> set[str]:
    """Every environment variable that is a setting."""
    return {
        f"{PREFIX}{section}__{name}".upper() for section, model in sections().items() for name in model.model_fields
    }


def config_schema() -> dict[str, Any]:
    """The schema of `config` in values.schema.json."""
    properties = {name: _section_schema(name, model) for name, model in sections().items()}
    return _closed({name: schema for name, schema in properties.items() if schema["properties"]})


def _section_schema(section: str, model: type[BaseModel]) -> dict[str, Any]:
    fields = model.model_json_schema()["properties"]
    return _closed(
        {name: _without_titles(field) for name, field in fields.items() if f"{section}__{name}".upper() not in OWNED}
    )


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _without_titles(field: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in field.items() if key != "title"}
