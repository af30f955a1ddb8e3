"""The HTTP contract: `POST /call/end` as pydantic models, under Weave's names, and how a body becomes a call."""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from itertools import chain, islice
from re import compile as pattern
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError, from_json, to_json

from processor.errors import ErrorDetail, InvalidCall
from processor.limits import (
    DOOR_AHEAD_HOURS,
    DOOR_OLDEST_DAYS,
    ID_BYTES,
    INT64_MAX,
    INT64_MIN,
    MAX_COUNT,
    MAX_MODELS,
    MAX_STATUSES,
    MODEL_BYTES,
    Breach,
    Window,
    door_window,
    project_id_breach,
    text_breach,
    to_us,
)
from processor.refusals import BODY, KEY, MAX_DETAILS, Loc, are_sound, breaches_in, details_of

USAGE_FIELDS: Final[tuple[str, ...]] = (
    "prompt_tokens",
    "input_tokens",
    "completion_tokens",
    "output_tokens",
    "requests",
    "total_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)


class TraceStatus(StrEnum):
    SUCCESS = "success"
    ERROR = "error"
    RUNNING = "running"
    DESCENDANT_ERROR = "descendant_error"


def _in_utc(value: datetime) -> datetime:
    """Naive is UTC, never the zone of this machine."""
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("datetime_range", "out of range") from None


Count = Annotated[int, Field(ge=-MAX_COUNT, le=MAX_COUNT)]
Int64 = Annotated[int, Field(ge=INT64_MIN, le=INT64_MAX)]
UtcDatetime = Annotated[datetime, AfterValidator(_in_utc)]


class Contract(BaseModel):
    """Integers are lax as in pydantic's default ("5", 5.0, true), because the original server is."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)


class LLMUsageSchema(Contract):
    prompt_tokens: Count | None = None
    input_tokens: Count | None = None
    completion_tokens: Count | None = None
    output_tokens: Count | None = None
    requests: Count | None = None
    total_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None


class SummaryInsertMap(Contract):
    usage: Annotated[dict[str, LLMUsageSchema], Field(max_length=MAX_MODELS)] = Field(default_factory=dict)
    status_counts: Annotated[dict[str, Count], Field(max_length=MAX_STATUSES)] = Field(default_factory=dict)


class EndedCallSchemaForInsert(Contract):
    """`output` absent and `output: null` differ in `model_fields_set`; other fields: an explicit null is absent."""

    project_id: str
    id: str
    ended_at: UtcDatetime
    exception: str | None = None
    output: Any = None
    summary: SummaryInsertMap
    wb_run_step_end: Int64 | None = None
    # Not in the published contract, but sent by the SDK:
    trace_id: str | None = None
    started_at: UtcDatetime | None = None
    is_eval: bool | None = None


class CallEndReq(Contract):
    model_config = ConfigDict(extra="forbid")

    end: EndedCallSchemaForInsert


def parse_call_end(body: bytes, *, now: datetime, horizon_days: int) -> CallEndReq:
    """The call in this body, or InvalidCall with the entries of the 422 answer. `now`: aware."""
    request = _validated(body)
    details: Iterator[ErrorDetail] = _breaches(request.end, door_window(now, horizon_days), horizon_days)
    # In JSON, NUL can only be written as this escape; if the bytes are there, a walk tells whether it is one.
    if b"\\u0000" in body or not _free_values_are_sound(request.end):
        details = chain(details, *(breaches_in(*place) for place in _free_values(request.end)))
    if kept := list(islice(details, MAX_DETAILS)):
        raise InvalidCall(kept)
    return request


def has_negative_count(request: CallEndReq) -> bool:
    """Whether any token or status count is below 0: accepted (a correction), and worth a metric."""
    summary = request.end.summary
    counts = chain(summary.status_counts.values(), *(usage.__dict__.values() for usage in summary.usage.values()))
    return any(count is not None and count < 0 for count in counts)


_UUIDV7 = pattern(r"([0-9a-fA-F]{8})-([0-9a-fA-F]{4})-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}").fullmatch
TIMED_FROM_MS, TIMED_UNTIL_MS = (to_us(datetime(year, 1, 1, tzinfo=UTC)) // 1000 for year in (2020, 2100))


def id_time_ms(call_id: str) -> int | None:
    """The time of a *timed id* (a UUIDv7 of 36 characters with a time in 2020..2099), else None.

    A rule on the id alone: whether a call is looked up by time must never depend on the rest of it.
    """
    match = _UUIDV7(call_id)
    if match is None:
        return None
    time_ms = int(match[1] + match[2], 16)
    return time_ms if TIMED_FROM_MS <= time_ms < TIMED_UNTIL_MS else None


def _validated(body: bytes) -> CallEndReq:
    try:
        return CallEndReq.model_validate_json(body)
    except ValidationError as error:
        details = details_of(error)
        invalid_json = details[0].loc == BODY
    if not invalid_json:
        # A repeated key of `usage` is judged once for each time that it is there. Fold repeats and look again: the
        # last one wins, also over a wrong one.
        try:
            return CallEndReq.model_validate_json(to_json(from_json(body), inf_nan_mode="constants"))
        except ValidationError as error:
            details = details_of(error)
    raise InvalidCall(details)


def _breaches(end: EndedCallSchemaForInsert, window: Window, horizon_days: int) -> Iterator[ErrorDetail]:
    loc: Loc = (*BODY, "end")
    if breach := project_id_breach(end.project_id):
        yield _detail((*loc, "project_id"), breach)
    if breach := text_breach("id", end.id, ID_BYTES):
        yield _detail((*loc, "id"), breach)
    for model in end.summary.usage:
        if breach := text_breach("a model name", model, MODEL_BYTES):
            yield _detail((*loc, "summary", "usage", KEY), breach)
    if not end.summary.status_counts.keys() <= _STATUSES:
        yield _detail((*loc, "summary", "status_counts", KEY), _UNKNOWN_STATUS)
    oldest_us, newest_us = window
    if not oldest_us <= to_us(end.ended_at) <= newest_us:
        yield _detail((*loc, "ended_at"), _outside("ended_at", horizon_days))
    id_ms = id_time_ms(end.id)
    if id_ms is not None and not oldest_us <= id_ms * 1000 <= newest_us:
        yield _detail((*loc, "id"), _outside("the time in id (a UUIDv7)", horizon_days))


_STATUSES: Final = frozenset(map(str, TraceStatus))
_UNKNOWN_STATUS: Final = Breach("trace_status", f"a status must be one of {', '.join(TraceStatus)}")


def _outside(what: str, horizon_days: int) -> Breach:
    days = horizon_days + DOOR_OLDEST_DAYS
    return Breach("outside_horizon", f"{what} must be at most {days} days ago and {DOOR_AHEAD_HOURS} hours ahead")


def _detail(loc: Loc, breach: Breach) -> ErrorDetail:
    return ErrorDetail(loc, breach.msg, breach.type)


def _free_values_are_sound(end: EndedCallSchemaForInsert) -> bool:
    """The levels: the body is 1, `end` 2, `output` and `summary` 3, `usage` 4, usage[model] 5."""
    summary = end.summary
    return (
        are_sound((end.output, *(end.__pydantic_extra__ or {}).values()), 3)
        and are_sound((summary.__pydantic_extra__ or {}).values(), 4)
        and all(
            are_sound(usage.__pydantic_extra__.values(), 6)
            for usage in summary.usage.values()
            if usage.__pydantic_extra__
        )
    )


def _free_values(end: EndedCallSchemaForInsert) -> Iterator[tuple[Loc, Any, int]]:
    """All that no rule of a field looks into: where, the value, the level. Unknown keys count as their object."""
    loc: Loc = (*BODY, "end")
    for field in ("exception", "trace_id", "output"):
        yield (*loc, field), getattr(end, field), 3
    yield loc, end.__pydantic_extra__, 2
    yield (*loc, "summary"), end.summary.__pydantic_extra__, 3
    for usage in end.summary.usage.values():
        yield (*loc, "summary", "usage", KEY), usage.__pydantic_extra__, 5
