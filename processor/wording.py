"""What is wrong with a setting or an entry of a file, in our words: pydantic's are made for programmers."""

from collections.abc import Mapping
from typing import Any, Final

_SENTENCES: Final = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "timezone_aware": "needs a time zone, for example 2027-01-01T00:00:00Z",
    "literal_error": "must be {expected}",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:.15g}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must not be empty",
}


def said(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors (`ValidationError.errors()`), without the name of its place and without a value."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")  # a sentence of ours
    if kind.startswith(("datetime", "date")):
        return "must be a time as in RFC 3339, for example 2027-01-01T00:00:00Z"
    return _SENTENCES.get(kind, "is not valid").format(**context)
