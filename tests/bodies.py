"""Bodies of POST /call/end: one good one, and the same with something changed."""

import json
from datetime import UTC, datetime
from typing import Any, Final

from processor.calls import CallEndReq, parse_call_end
from tests.factories import NOON_MS, uuid7

NOW: Final = datetime.fromtimestamp(NOON_MS // 1000, UTC)
HORIZON_DAYS: Final = 35

SDK_END: Final[dict[str, Any]] = {  # as recorded from the Python SDK
    "project_id": "acme/chat",
    "id": uuid7(1),
    "trace_id": uuid7(2),
    "is_eval": False,
    "ended_at": NOW.isoformat(),
    "started_at": NOW.isoformat(),
    "exception": None,
    "output": {"choices": [{"message": {"role": "assistant", "content": "hello"}}]},
    "summary": {
        "usage": {"gpt-4o": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30, "requests": 1}},
        "status_counts": {"success": 1, "error": 0},
    },
    "wb_run_step_end": None,
}
LEAST_END: Final[dict[str, Any]] = {
    "project_id": "acme/chat",
    "id": "call-1",
    "ended_at": NOW.isoformat(),
    "summary": {},
}


def body(**changes: Any) -> bytes:
    """The smallest body, with these fields of `end` beside or instead."""
    return json.dumps({"end": LEAST_END | changes}).encode()


def body_with(field: str, json_text: str | bytes) -> bytes:
    """The smallest body, with the field of `end` written exactly so."""
    text = json_text if isinstance(json_text, bytes) else json_text.encode()
    others = {name: value for name, value in LEAST_END.items() if name != field}
    return b'{"end": {"' + field.encode() + b'": ' + text + b", " + json.dumps(others).encode()[1:] + b"}"


def usage(**counts: Any) -> bytes:
    return body(summary={"usage": {"gpt-4o": counts}})


def parse(text: bytes) -> CallEndReq:
    return parse_call_end(text, now=NOW, horizon_days=HORIZON_DAYS)
