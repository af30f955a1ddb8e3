"""Whether an answer is one that the door may give: no 5xx, no echo, and a refusal that names field and limit."""

import json
import re
from typing import Any, Final

from tests.fuzz.requests import MARK, Request

ANY: Final = frozenset({200, 413, 422})
WILD: Final = frozenset({200, 400, 401, 404, 405, 408, 413, 415, 422, 431})
# Rules with a number in them: the message must say which.
LIMITS: Final = frozenset(
    {"greater_than_equal", "less_than_equal", "too_long", "text_length", "nesting_too_deep", "integer_too_long",
     "int_parsing_size", "outside_horizon", "datetime_range", "too_many_errors"}
)  # fmt: skip
# Rules of the whole body: there is no field to name.
OF_THE_BODY: Final = frozenset(
    {"json_invalid", "model_type", "gzip_invalid", "nesting_too_deep", "integer_too_long", "too_many_errors"}
)


def fault(request: Request, status: int, head: bytes, body: bytes) -> str | None:
    """What is wrong with this answer; None: nothing."""
    if MARK.encode() in (head + body).lower():
        return f"{status} echoes what the client sent"
    allowed = WILD if request.wild else ANY if request.expect is None else {request.expect}
    if status not in allowed:
        return f"{status} instead of one of {sorted(allowed)}"
    if status == 200:
        return None if body == b"{}" else "200 with a body that is not {}"
    return None if request.wild else _fault_of_refusal(status, body)


def _fault_of_refusal(status: int, body: bytes) -> str | None:
    try:
        content = json.loads(body)
        detail = content["detail"]
    except (ValueError, KeyError, TypeError):
        return f"{status} without a detail in JSON"
    if status == 422:
        if not isinstance(detail, list) or not 1 <= len(detail) <= 20:
            return f"422 with {len(detail)} details"
        return next(filter(None, map(_fault_of_detail, detail)), None)
    if status == 413 and str(content.get("limit_bytes")) not in detail:
        return "413 does not name the limit"
    return None if isinstance(detail, str) and detail else f"{status} without a sentence"


def _fault_of_detail(entry: dict[str, Any]) -> str | None:
    loc, message, rule = entry["loc"], entry["msg"], entry["type"]
    if loc[0] != "body" or "is not valid" in message.removeprefix("the body is not valid JSON"):
        return f"422 {rule} does not say which rule of which field: {message}"
    if rule in LIMITS and not re.search(r"\d", message):
        return f"422 {rule} does not name the limit: {message}"
    if len(loc) == 1 and rule not in OF_THE_BODY:
        return f"422 {rule} does not name the field: {message}"
    return None
