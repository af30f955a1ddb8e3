"""Requests that the door must refuse, each with its status: nothing of them may be counted."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

Headers = tuple[tuple[str, str], ...]
Bad = tuple[bytes, Headers, int]  # body, headers, status

JSON: Headers = (("content-type", "application/json"),)
MAX_BODY_BYTES = 8 * 2**20  # the door's default


def bad_bodies(now: datetime, max_body_bytes: int = MAX_BODY_BYTES) -> Iterator[Bad]:
    """One request for each rule of the contract."""
    yield from ((body, JSON, 422) for body in _unprocessable(now))
    yield b" " * (max_body_bytes + 1), JSON, 413
    yield _body(now, output="x" * max_body_bytes), JSON, 413
    yield _body(now), (("content-type", "text/plain"),), 415
    yield _body(now), (*JSON, ("content-encoding", "br")), 415
    yield _body(now)[:9], (*JSON, ("content-encoding", "gzip")), 422


def _unprocessable(now: datetime) -> Iterator[bytes]:
    yield from (b"", b"{", b"[]", b'{"end": null}', b"\xff\xfe", b'{"end": {"project_id": "a/b"}}')
    good = _body(now)
    yield good[:-1] + b', "mode": "end"}'
    for value in (b"NaN", b"Infinity", b"1e400", b'"\\ud800"', b'"\\u0000"', b"[" * 101 + b"]" * 101, b"9" * 4301):
        yield good.replace(b'"output": null', b'"output": ' + value)
    ago, ahead = now - timedelta(days=400), now + timedelta(days=3)
    changes: Sequence[dict[str, Any]] = (
        {"project_id": "no-slash"}, {"project_id": "/empty"}, {"project_id": "p/" + "x" * 255},
        {"id": ""}, {"id": "x" * 257}, {"id": None}, {"id": "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"},
        {"ended_at": ago.isoformat()}, {"ended_at": ahead.isoformat()}, {"ended_at": "yesterday"},
        {"summary": None}, {"summary": {"usage": None}}, {"summary": {"status_counts": {"weird": 1}}},
        {"summary": {"usage": {"": {"requests": 5.5}}}}, {"summary": {"usage": {"m": {"requests": 10**12 + 1}}}},
        {"summary": {"usage": {"x" * 513: {}}}}, {"summary": {"usage": {f"model {i}": {} for i in range(257)}}},
    )  # fmt: skip
    for change in changes:
        yield _body(now, **change)


def _body(now: datetime, **change: Any) -> bytes:
    end: dict[str, Any] = {
        "project_id": "bad/bodies",
        "id": "never-counted",
        "ended_at": now.isoformat(),
        "output": None,
        "summary": {},
    }
    return json.dumps({"end": end | change}).encode()
