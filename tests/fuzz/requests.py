"""Requests as an enemy sends them. All that a client may choose holds MARK: no answer and no log may ever hold it."""

import gzip
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from random import Random
from typing import Any, Final

from processor.sample.bad_bodies import bad_bodies

MARK: Final = "pl4nted"
BODY_LIMIT: Final = 64 * 1024  # of the door that is fuzzed: what is too large costs little to send
KEY, NARROW_KEY = f"{MARK}-key-für-alles", f"{MARK}-key-of-one-project"
KEY_FILE: Final = "".join(
    f'[keys.{name}]\nsha256 = "{sha256(key.encode()).hexdigest()}"\nprojects = ["{projects}"]\n'
    for name, key, projects in (("wide", KEY, "*/*"), ("narrow", NARROW_KEY, "none/at-all"))
)


@dataclass(frozen=True, slots=True)
class Request:
    """`expect`: the answer that it must get; None: any but 401, 404 or 5xx. `wild`: no HTTP of a sound client, so its
    connection ends with it, and it may stay without an answer."""

    wire: bytes
    expect: int | None
    wild: bool = False


def requests(seed: int, now: datetime) -> Iterator[Request]:
    """Without end."""
    r = Random(seed)
    refused = [(body, dict(headers), status) for body, headers, status in bad_bodies(now, BODY_LIMIT)]
    while True:
        draw = r.random()
        if draw < 0.72:
            yield _changed(r, now)
        elif draw < 0.86:
            body, headers, status = r.choice(refused)
            yield Request(_wire(r, body, headers), status)
        elif draw < 0.9:
            yield _swollen(r, now)
        elif draw < 0.96:
            yield _of_nobody(r, now)
        else:
            yield Request(mangled_bytes(r, _wire(r, good_call(r, now))), None, wild=True)


JSON: Final = {"content-type": "application/json"}
GZIP: Final = {**JSON, "content-encoding": "gzip"}


def _changed(r: Random, now: datetime) -> Request:
    """A good call; or one with up to four changes, which may be good or not."""
    body = good_call(r, now)
    changes = r.choice((0, 1, 1, 1, 2, 4))
    for _ in range(changes):
        body = r.choice(_CHANGES)(r, body)
    if r.random() < 0.1:
        body = gzip.compress(body, 1)
        if r.random() < 0.3:
            return Request(_wire(r, mangled_bytes(r, body), GZIP), None)
        return Request(_wire(r, body, GZIP), None if changes else 200)
    return Request(_wire(r, body), None if changes else 200)


def _swollen(r: Random, now: datetime) -> Request:
    """Larger than a limit, or as large as it allows."""
    call = good_call(r, now)
    kind = r.randrange(5)
    if kind == 0:
        return Request(_wire(r, call.ljust(BODY_LIMIT + 1)), 413)
    if kind == 1:
        return Request(_wire(r, call.ljust(BODY_LIMIT)), 200)
    if kind == 2:
        return Request(_wire(r, gzip.compress(call.ljust(r.choice((BODY_LIMIT + 1, 2**22))), 1), GZIP), 413)
    if kind == 3:
        return Request(_wire(r, gzip.compress(call.ljust(BODY_LIMIT), 1), GZIP), 200)
    members = b"".join(gzip.compress(call[at : at + 40], 1) for at in range(0, len(call), 40))
    return Request(_wire(r, members, GZIP), 200)


def _of_nobody(r: Random, now: datetime) -> Request:
    """Wrong credentials, projects of others, what is not JSON, other paths and methods."""
    call = good_call(r, now) if r.random() < 0.5 else b"{"
    kind = r.randrange(6)
    if kind == 0:
        wrong = r.choice(
            ("", "Basic", f"Basic {MARK}", f"Bearer {MARK}", _basic(KEY, MARK), _basic(KEY[1:]), f"Basic {'=' * 999}")
        )
        return Request(_wire(r, call, authorization=wrong), 401)
    if kind == 1:
        return Request(_wire(r, call, authorization=_basic(NARROW_KEY)), 403 if call != b"{" else 422)
    if kind == 2:
        return Request(_wire(r, call, {"content-type": f"text/{MARK}"}), 415)
    if kind == 3:
        return Request(_wire(r, call, {**JSON, "content-encoding": MARK}), 415)
    if kind == 4:
        return Request(_wire(r, call, path=f"/{MARK}?{MARK}={MARK}"), 404)
    return Request(_wire(r, call, method=r.choice(("PUT", "PATCH", "DELETE"))), 405)


def _basic(key: str, user: str = "api") -> str:
    return "Basic " + b64encode(f"{user}:{key}".encode()).decode()


def _wire(
    r: Random,
    body: bytes,
    headers: dict[str, str] = JSON,
    *,
    authorization: str | None = None,
    method: str = "POST",
    path: str = "/call/end",
) -> bytes:
    if authorization is None:
        authorization = r.choice((_basic(KEY), f"Bearer {KEY}"))
    chunked = r.random() < 0.1
    length = "transfer-encoding: chunked" if chunked else f"content-length: {len(body)}"
    lines = [
        f"{method} {path} HTTP/1.1",
        f"host: {MARK}",
        f"x-{MARK}: {MARK}",
        f"authorization: {authorization}",
        length,
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (_chunks(r, body) if chunked else body)


def _chunks(r: Random, body: bytes) -> bytes:
    pieces, at = [], 0
    while at < len(body):
        size = r.choice((1, 7, 100, 5000, 2**17))
        piece = body[at : at + size]
        pieces.append(b"%x\r\n%b\r\n" % (len(piece), piece))
        at += size
    return b"".join(pieces) + b"0\r\n\r\n"


def good_call(r: Random, now: datetime) -> bytes:
    usage = {name: r.randrange(5000) for name in ("prompt_tokens", "completion_tokens", "total_tokens", "requests")}
    end: dict[str, Any] = {
        "project_id": f"{MARK}/{r.randrange(4)}",
        "id": f"{MARK}-{r.getrandbits(96):x}",
        "ended_at": (now - timedelta(seconds=r.randrange(10**6))).isoformat(),
        "started_at": now.isoformat(),
        "exception": r.choice((None, None, MARK)),
        "output": {MARK: [MARK, 1.5, None, {"a": True}]},
        "summary": {
            "usage": {f"{MARK}-{r.randrange(9)}": {**usage, MARK: MARK}},
            "status_counts": {"success": 1, "error": 0},
            MARK: {MARK: 1},
        },
        "trace_id": MARK,
        MARK: MARK,
    }
    return json.dumps({"end": end}).encode()


# --- changes of a body

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|[\[\]{},:]')
_SCALAR: Final = re.compile(rb'(?<=:) ?(?:"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null)')
_M: Final = MARK.encode()


def _object(entries: int, value: str) -> bytes:
    return ("{" + ",".join(f'"{MARK}{i}":{value}' for i in range(entries)) + "}").encode()


_VALUES: Final = (
    b"null", b"true", b"[]", b"{}", b'""', b"0", b"-1", b"5.5", b'"5"', b"5.0", b"1e9", b"0001", b"+1", b"'x'",
    b"undefined", b"NaN", b"-Infinity", b"1e400", b"-1e400", b"1000000000000", b"1000000000001", b"-1000000000001",
    b"9223372036854775807", b"9223372036854775808", b"9" * 4300, b"9" * 4301, b'"' + b"9" * 5000 + b'"',
    b'"\\ud800"', b'"\\udc00' + _M + b'"', b'"' + _M + b'\\u0000"', b'"\0"', b'"\xff"', b'"\xed\xa0\x80"',
    b'"\xc0\x80"', "\"é鍵🔑\"".encode(), b'"a/b"', b'"/' + _M + b'"', b'"' + _M + b'/"',
    b'"' + _M + b"x" * 249 + b'"', b'"' + _M + b"x" * 250 + b'"', b'"a/' + _M + b"x" * 248 + b'"',
    b'"' + _M + b"x" * 506 + b'"', b"[" * 95 + b"]" * 95, b"[" * 101 + b"]" * 101, b"[" * 5000,
    (b'{"%b":' % _M) * 98 + b"1" + b"}" * 98, _object(64, "1"), _object(65, "1"), _object(256, "{}"),
    _object(257, "{}"), b'"2026-02-30T00:00:00Z"', b'"0001-01-01T00:00:00+14:00"', b'"9999-12-31T23:59:59-14:00"',
    b"253402300800", b"-1e300", b'"017f22e2-79b0-7cc3-98c4-dc0c0c07398f"', b'{"usage":{"":{"requests":"%b"}}}' % _M,
    b'{"status_counts":{"%b":1}}' % _M, b'{"usage":null}', b'{"status_counts":{"success":-5}}',
)  # fmt: skip


def _token(r: Random, body: bytes, tokens: "re.Pattern[bytes]" = _TOKEN) -> tuple[int, int]:
    spans = [match.span() for match in tokens.finditer(body)]
    return r.choice(spans) if spans else (0, len(body))


def _another_value(r: Random, body: bytes) -> bytes:
    start, end = _token(r, body, _SCALAR)
    return body[:start] + r.choice(_VALUES) + body[end:]


def _one_token_less(r: Random, body: bytes) -> bytes:
    start, end = _token(r, body)
    return body[:start] + body[end:]


def _repeated(r: Random, body: bytes) -> bytes:
    (start, _), (_, end) = sorted((_token(r, body), _token(r, body)))
    return body[:end] + body[start:end] + body[end:]


def _one_field_more(r: Random, body: bytes) -> bytes:
    at = r.choice([match.end() for match in re.finditer(rb"\{", body)] or [0])
    names = (
        b"project_id",
        b"id",
        b"ended_at",
        b"summary",
        b"usage",
        b"output",
        b"wb_run_step_end",
        b"end",
        _M,
        b"is_eval",
    )
    return body[:at] + b'"%b":%b,' % (r.choice(names), r.choice(_VALUES)) + body[at:]


def _cut(r: Random, body: bytes) -> bytes:
    return body[: r.randrange(len(body) + 1)]


def mangled_bytes(r: Random, data: bytes) -> bytes:
    """Bytes changed, put in, left out or doubled, in up to eight places; or the end cut off."""
    mangled = bytearray(data)
    for _ in range(r.randint(1, 8)):
        at = r.randrange(len(mangled) + 1)
        kind = r.randrange(5)
        if kind == 0 and at < len(mangled):
            mangled[at] = r.randrange(256)
        elif kind == 1:
            mangled[at:at] = r.choice((b"\0", b"\r\n", b"\n", b":", b" ", b"\xff", b"9", b"\r\n\r\n", r.randbytes(3)))
        elif kind == 2:
            del mangled[at : at + r.randrange(9)]
        elif kind == 3:
            mangled[at:at] = mangled[max(0, at - 40) : at]
        elif r.random() < 0.3:
            del mangled[at:]
    return bytes(mangled)


_CHANGES: Final[Sequence[Callable[[Random, bytes], bytes]]] = (
    _another_value, _another_value, _another_value, _one_token_less, _repeated, _one_field_more, _cut, mangled_bytes,
)  # fmt: skip
