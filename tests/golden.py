"""The golden records: schemas/call_end.v1.examples.jsonl, for readers in any language.

One JSON object a line, in ASCII:

    name    what this record shows
    key     of the record, as text
    value   of the record, whole, in hexadecimal
    call    the call in the form in which it is posted, without nulls that mean nothing; times in UTC

Lines are frozen: a released reader must go on reading them, so no line is ever written anew. A new case goes to the end
of CASES, and gets its line by

    .venv/bin/python -m tests.golden
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from processor.calls import USAGE_FIELDS, CallEndReq, EndedCallSchemaForInsert, parse_call_end
from processor.codec.rows import encode
from processor.limits import MAX_COUNT
from tests.factories import uuid7

FILE: Final = Path(__file__).parents[1] / "schemas/call_end.v1.examples.jsonl"

NEW_YEAR_MS: Final = 1_767_225_600_000  # 2026-01-01T00:00:00Z
_LEAST: Final[dict[str, Any]] = {
    "project_id": "acme/chat",
    "ended_at": "2026-01-01T00:00:00Z",
    "summary": {},
}
_ALL_KINDS: Final[list[Any]] = [
    {},
    [],
    None,
    True,
    0,
    -0.0,
    1.0,
    5e-324,
    1.7976931348623157e308,
    10**40,
    "\U0001f600",
    {"a": {"b": [1]}},
]
_COUNTS: Final = (  # of version 1: not USAGE_FIELDS, which may get more
    "prompt_tokens",
    "input_tokens",
    "completion_tokens",
    "output_tokens",
    "requests",
    "total_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)
_ONE_TO_EIGHT: Final = {field: number for number, field in enumerate(_COUNTS, 1)}

CASES: Final[dict[str, dict[str, Any]]] = {
    "the smallest call": {},
    "a call as the Python SDK posts it": {
        "project_id": "acme/chat",
        "trace_id": uuid7(1000, NEW_YEAR_MS),
        "is_eval": False,
        "ended_at": "2026-01-01T00:00:00+00:00",
        "started_at": "2025-12-31T23:59:58.750000+00:00",
        "exception": None,
        "output": {"choices": [{"message": {"role": "assistant", "content": "hello"}}]},
        "summary": {
            "usage": {"gpt-4o": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30, "requests": 1}},
            "status_counts": {"success": 1, "error": 0},
        },
        "wb_run_step_end": None,
    },
    "every field": {
        "exception": "ValueError: no such tool",
        "output": "partial answer",
        "summary": {"usage": {"claude-sonnet-4": _ONE_TO_EIGHT}, "status_counts": {"error": 1}},
        "wb_run_step_end": 17,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "started_at": "2025-12-31T23:59:00Z",
        "is_eval": True,
    },
    "an exception that is empty is one": {"exception": ""},
    "an id of OpenTelemetry": {"id": "00f067aa0ba902b7"},
    "text of many scripts, and control characters": {
        "project_id": "Zoë/日本語-😀",
        "id": "e\u0301\u200d\u202e",
        "exception": "Ошибка:\u2028\ufeff\ufffd\uffff\x01\x7f\t\n\"\\",
        "output": {"مفتاح": "\U0010ffff", "": "\r\n"},
        "summary": {"usage": {"модель-😀": {"prompt_tokens": 1, "größe": "ﬁ"}}, "ключ": "值"},
        "trace_id": "\u00a0",
        "ß": "ẞ",
    },
    "texts of the greatest length": {
        "project_id": "é/" + "x" * 253,
        "id": "é" * 128,
        "summary": {"usage": {"\U0001f600" * 128: {"requests": 1}}},
    },
    "an empty model name": {"summary": {"usage": {"": {"total_tokens": 5}}, "status_counts": {"success": 1}}},
    "a model without counts": {"summary": {"usage": {"gpt-4o": {}, "o3": {"prompt_tokens": None, "requests": 0}}}},
    "several models and statuses": {
        "summary": {
            "usage": {
                "gpt-4o": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150, "requests": 2},
                "claude-sonnet-4": {"input_tokens": 300, "output_tokens": 70, "cache_read_input_tokens": 250},
                "text-embedding-3-small": {"prompt_tokens": 12, "total_tokens": 12},
            },
            "status_counts": {"success": 3, "error": 1, "running": 0, "descendant_error": 2},
        }
    },
    "the greatest numbers": {
        "summary": {"usage": {"m": dict.fromkeys(_COUNTS, MAX_COUNT)}, "status_counts": {"success": MAX_COUNT}},
        "wb_run_step_end": 2**63 - 1,
    },
    "the least numbers": {
        "summary": {"usage": {"m": dict.fromkeys(_COUNTS, -MAX_COUNT)}, "status_counts": {"error": -MAX_COUNT}},
        "wb_run_step_end": -(2**63),
    },
    "numbers at the edges of their bytes": {
        "summary": {
            "usage": {"m": dict(zip(_COUNTS, (0, -1, 63, -64, 64, -65, 8191, 8192), strict=True))},
            "status_counts": {"success": 2**31, "error": -(2**31) - 1},
        }
    },
    "the last microsecond of the hour": {"ended_at": "2025-12-31T23:59:59.999999Z"},
    "times of other zones, and before 1970": {
        "ended_at": "2026-01-01T05:45:00.000001+05:45",
        "started_at": "1969-12-31T23:59:59.999999Z",
    },
    "the first time": {"id": "1", "started_at": "0001-01-01T00:00:00Z"},
    "the last time": {"id": "2", "started_at": "9999-12-31T23:59:59.999999Z"},
    "output is null, which is not absent": {"output": None},
    "output is the text null": {"output": "null"},
    "output is false": {"output": False},
    "output is empty": {"output": ""},
    "output of all kinds": {"output": _ALL_KINDS},
    "unknown keys at each level": {
        "display_name": "answer",
        "nothing": None,
        "summary": {
            "usage": {"gpt-4o": {"prompt_tokens": 1, "reasoning_tokens": 7, "cost": 0.25}, "o3": {"tier": None}},
            "status_counts": {"success": 1},
            "weave": {"latency_ms": 12, "feedback": []},
        },
    },
    "unknown keys with names of the contract": {
        "usage": 1,
        "extra": {"extra": "extra"},
        "summary": {"usage": {"m": {"output": 1, "extra": None}}, "end": 2, "extra": 3, "output": None},
    },
}  # fmt: skip


def posted(name: str) -> CallEndReq:
    """The call of this case, as the door takes it."""
    number = list(CASES).index(name) + 1
    body = json.dumps({"end": _LEAST | {"id": uuid7(number, NEW_YEAR_MS)} | CASES[name]}).encode()
    return parse_call_end(body, now=datetime.fromtimestamp(NEW_YEAR_MS / 1000, UTC), horizon_days=35)


def as_json(call: CallEndReq) -> dict[str, Any]:
    """The call as it could be posted again. In fields of the contract null means absent, except in `output`."""
    end = call.end.model_dump(mode="json", exclude_unset=True)
    output = {"output": end["output"]} if "output" in end else {}
    summary = {"usage": {}, "status_counts": {}, **end["summary"]}
    summary["usage"] = {model: _without_nulls(usage, USAGE_FIELDS) for model, usage in summary["usage"].items()}
    return {"end": _without_nulls(end, EndedCallSchemaForInsert.model_fields) | {"summary": summary} | output}


def _without_nulls(fields: dict[str, Any], of_contract: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None or name not in of_contract}


def line(name: str) -> dict[str, Any]:
    call = posted(name)
    return {"name": name, "key": call.end.project_id, "value": encode(call).hex(), "call": as_json(call)}


def lines() -> list[dict[str, Any]]:
    """What is in the file."""
    return [json.loads(text) for text in FILE.read_text(encoding="ascii").splitlines()]


def main() -> None:
    FILE.touch()
    written = {each["name"] for each in lines()}
    with FILE.open("a", encoding="ascii", newline="\n") as file:
        file.writelines(json.dumps(line(name)) + "\n" for name in CASES if name not in written)


if __name__ == "__main__":
    main()
