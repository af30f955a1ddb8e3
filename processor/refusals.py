"""Why a body is refused: entries of a 422 answer, and the walk over the values that the contract leaves free.

No entry ever holds anything that the client sent. Messages are written here, not taken from pydantic (some of its
messages quote the input); keys that the client chose (model names, statuses, unknown keys) stand in `loc` as "[key]".
"""

import re
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any, Final

from pydantic import ValidationError

from processor.errors import ErrorDetail

MAX_DETAILS: Final = 20
MAX_ERRORS: Final = 1000  # beyond, only their number is told: half a million entries would cost a gigabyte
MAX_DEPTH: Final = 100  # levels of objects and arrays; the body itself is the first
MAX_DIGITS: Final = 4300  # of an integer; pydantic's parser refuses more

Loc = tuple[str | int, ...]
BODY: Final[Loc] = ("body",)
KEY: Final = "[key]"

_TOO_DEEP: Final = f"the body must not be nested deeper than {MAX_DEPTH} levels"
_MESSAGES: Final = {
    "missing": "{field} is required",
    "extra_forbidden": "the body must have no key but end",
    "model_type": "{field} must be an object",
    "dict_type": "{field} must be an object",
    "too_long": "{field} must have at most {max_length} entries",
    "string_type": "{field} must be a string",
    "int_type": "{field} must be an integer",
    "int_parsing": "{field} must be an integer",
    "int_parsing_size": f"{{field}} must be an integer of at most {MAX_DIGITS} digits",
    "int_from_float": "{field} must be an integer, without a fraction",
    "finite_number": "{field} must be a finite integer",
    "greater_than_equal": "{field} must be at least {ge}",
    "less_than_equal": "{field} must be at most {le}",
    "bool_type": "{field} must be true or false",
    "bool_parsing": "{field} must be true or false",
    "datetime_type": "{field} must be a date and time: RFC 3339, or a number of seconds since 1970",
    "datetime_parsing": "{field} must be a date and time: RFC 3339, or a number of seconds since 1970",
    "datetime_from_date_parsing": "{field} must be a date and time: RFC 3339, or a number of seconds since 1970",
    "datetime_range": "{field} must lie in the years 1 to 9999, in UTC",
}


def details_of(error: ValidationError) -> list[ErrorDetail]:
    """At most MAX_DETAILS entries for pydantic's errors."""
    count = error.error_count()
    if count > MAX_ERRORS:
        return [ErrorDetail(BODY, f"the body breaks the contract in more than {MAX_ERRORS} places", "too_many_errors")]
    errors = error.errors(include_url=False, include_input=False)
    return [_detail(e["type"], e["loc"], e.get("ctx", {})) for e in errors[:MAX_DETAILS]]


def _detail(kind: str, raw_loc: Loc, context: dict[str, Any]) -> ErrorDetail:
    if kind == "json_invalid":
        return _not_json(str(context.get("error")))
    loc = _contract_loc(raw_loc)
    names = [part for part in loc if part != KEY]
    limits = {name: context.get(name) for name in ("ge", "le", "max_length")}  # ours, not the client's
    message = _MESSAGES.get(kind, "{field} is not valid").format(field=names[-1], **limits)
    return ErrorDetail(loc, message, kind)


def _not_json(parser_says: str) -> ErrorDetail:
    if parser_says.startswith("recursion limit"):
        return ErrorDetail(BODY, _TOO_DEEP, "nesting_too_deep")
    if parser_says.startswith("number out of range"):
        return ErrorDetail(BODY, f"an integer must have at most {MAX_DIGITS} digits", "integer_too_long")
    place = re.search(r" at line \d+ column \d+$", parser_says)
    return ErrorDetail(BODY, f"the body is not valid JSON in UTF-8{place[0] if place else ''}", "json_invalid")


def _contract_loc(raw: Loc) -> Loc:
    """Names of the contract and "[key]". A client chooses keys at the top and in `usage` and `status_counts`.

    Free values are never judged by pydantic, so these are all: end . summary . usage . KEY . prompt_tokens.
    """
    if raw and raw[0] != "end":
        return (*BODY, KEY)
    return (*BODY, *(KEY if place == 3 else part for place, part in enumerate(raw[:5])))


def are_sound(values: Iterable[Any], level: int) -> bool:
    """Whether all floats in these free values are finite, and nothing is nested deeper than MAX_DEPTH.

    `level`: the level that an object or array among `values` would have. Level by level, so that no depth of nesting
    can exhaust the stack. NUL is looked for elsewhere (in the body as a whole, which is quicker).
    """
    here = list(values)
    while here:
        below: list[Any] = []
        for value in here:
            kind = type(value)
            if kind is dict or kind is list:
                if level > MAX_DEPTH:
                    return False
                below.extend(value.values() if kind is dict else value)
            elif kind is float and not isfinite(value):
                return False
        here = below
        level += 1
    return True


def breaches_in(loc: Loc, value: Any, level: int) -> Iterator[ErrorDetail]:
    """Every breach of a rule in a free value. An object or array at `level` beyond MAX_DEPTH is not entered."""
    if isinstance(value, str):
        if "\0" in value:
            yield ErrorDetail(loc, "a string or key must not contain the character NUL", "nul_character")
    elif isinstance(value, float):
        if not isfinite(value):
            yield ErrorDetail(loc, "a number must be finite: no NaN, no Infinity, no overflow", "finite_number")
    elif isinstance(value, dict | list):
        if level > MAX_DEPTH:
            yield ErrorDetail(loc, _TOO_DEEP, "nesting_too_deep")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from breaches_in((*loc, index), item, level + 1)
        else:
            for key, item in value.items():
                yield from breaches_in((*loc, KEY), key, level + 1)
                yield from breaches_in((*loc, KEY), item, level + 1)
