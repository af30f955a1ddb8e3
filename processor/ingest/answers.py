"""Every answer that the door can give, and which error becomes which.

The status decides whether a client loses the call: the SDK drops it at once after 400, 401, 403 and 404, drops it alone
after 413 and 422, tries again after 408, 429 and 5xx. So no fault of ours may ever look like one of the client's.

A detail never holds anything that the client sent, nor what we know of our brokers.
"""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from processor.errors import ErrorDetail, InvalidCall, TooLarge, Unavailable
from processor.metrics import ANSWERS
from processor.refusals import MAX_DETAILS

Headers = tuple[tuple[bytes, bytes], ...]

JSON: Final = (b"content-type", b"application/json")
CLOSE: Final = (b"connection", b"close")
REQUEST_ID: Final = b"x-request-id"  # the name by which our log speaks of the request
RETRY_AFTER_S: Final = (1, 60)  # the SDK honours no more


@dataclass(frozen=True, slots=True)
class Answer:
    """`reason`: as it is counted (`metrics.ANSWERS`). `closes`: the connection is of no use afterwards."""

    reason: str
    headers: Headers  # complete
    body: bytes
    closes: bool = False

    @property
    def status(self) -> int:
        return ANSWERS[self.reason]


class Refused(Exception):
    """A request that is answered without looking further."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.reason)
        self.answer = answer


def answer(reason: str, content: Any, *headers: tuple[bytes, bytes], closes: bool = False) -> Answer:
    body = json.dumps(content, separators=(",", ":")).encode()
    return Answer(reason, (JSON, (b"content-length", str(len(body)).encode()), *headers), body, closes)


def refusal(reason: str, detail: str, *headers: tuple[bytes, bytes], closes: bool = False) -> Answer:
    return answer(reason, {"detail": detail}, *headers, closes=closes)


ACCEPTED: Final = answer("accepted", {})
NOT_FOUND: Final = refusal("not_found", "not here: LLM calls are taken at POST /call/end")
ONLY_POST: Final = refusal("wrong_method", "only POST is served here", (b"allow", b"POST"))
ONLY_GET: Final = refusal("wrong_method", "only GET and HEAD are served here", (b"allow", b"GET, HEAD"))
NOT_JSON: Final = refusal("not_json", "the content type must be JSON: send `content-type: application/json`")
ENCODED: Final = refusal(
    "wrong_encoding", "the content encoding must be gzip or identity", (b"accept-encoding", b"gzip, identity")
)  # also names what is missing, RFC 9110, 15.5.16
UNAUTHORIZED: Final = refusal(
    "unauthorized",
    "credentials are missing or wrong: send a valid key as the password of user `api`, or as a bearer token",
    (b"www-authenticate", b'Basic realm="call-processor", charset="UTF-8"'),
)  # fmt: skip
FORBIDDEN: Final = refusal("forbidden", "this key may not post to the project that project_id names")
# 408 and not 503, as nothing is wrong here; the SDK tries again after either.
TOO_SLOW: Final = refusal("too_slow", "the body did not arrive in time", closes=True)
NO_ROOM: Final = refusal("no_room", "too many connections: send it again in 1 s", (b"retry-after", b"1"), CLOSE)
BROKEN: Final = refusal("fault", "a fault of this service; it is logged under the x-request-id of this answer")


def answer_to(error: Exception) -> Answer | None:
    """None: an error that nobody foresaw."""
    if isinstance(error, InvalidCall):
        return answer("invalid", {"detail": [_entry(detail) for detail in error.details[:MAX_DETAILS]]})
    if isinstance(error, TooLarge):
        return answer("too_large", {"detail": str(error), "limit_bytes": error.limit_bytes})
    if isinstance(error, Unavailable):
        return unavailable(error.reason, error.retry_after_s)
    if isinstance(error, Refused):
        return error.answer
    return None


def unavailable(reason: str, retry_after_s: int) -> Answer:
    return _later(reason, "the call could not be handed over", retry_after_s)


def too_many_requests(retry_after_s: int) -> Answer:
    return _later("rate_limit", "more requests a second than this key may send", retry_after_s)


def _later(reason: str, why: str, retry_after_s: int) -> Answer:
    least, most = RETRY_AFTER_S
    return _in_seconds(reason, why, min(max(least, retry_after_s), most))


@cache  # in overload nearly all are answered so; there are few reasons
def _in_seconds(reason: str, why: str, seconds: int) -> Answer:
    return refusal(reason, f"{why}: send it again in {seconds} s", (b"retry-after", str(seconds).encode()))


def _entry(detail: ErrorDetail) -> dict[str, Any]:
    return {"loc": detail.loc, "msg": detail.msg, "type": detail.type}
