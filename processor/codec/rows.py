"""One call <-> the value of one record of the topic."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from processor.calls import USAGE_FIELDS, CallEndReq, LLMUsageSchema
from processor.codec.framing import frame, unframe
from processor.codec.rules import invalid, outside_horizon
from processor.codec.schema import CUT_SCHEMA, SCHEMA, WHOLE_SCHEMA
from processor.codec.wire import Malformed, Read, compile_reader
from processor.codec.writer import compile_writer
from processor.counting.rows import CountedCall
from processor.errors import DeadLetterReason, Rejected
from processor.limits import EPOCH, to_us, worker_window
from processor.refusals import details_of

Extra = dict[str, Any] | None

_END: Final = WHOLE_SCHEMA["fields"][0]["type"]
_END_FIELDS: Final = tuple(field["name"] for field in _END["fields"])
_read_cut: Final = compile_reader(CUT_SCHEMA)
_read_whole: Final = compile_reader(WHOLE_SCHEMA)
_write: Final = compile_writer(SCHEMA)


def encode(request: CallEndReq, *, keep_output: bool = True) -> bytes:
    """The framed value. `keep_output`: without, `output` is written as absent."""
    end, summary = request.end, request.end.summary
    written = keep_output and "output" in end.model_fields_set
    record = {
        **end.__dict__,
        "ended_at": to_us(end.ended_at),
        "summary": {
            "usage": {model: _with_extra(usage) for model, usage in summary.usage.items()},
            "status_counts": summary.status_counts,
            "extra": _json(summary.__pydantic_extra__),
        },
        "started_at": None if end.started_at is None else to_us(end.started_at),
        "output": to_json(end.output).decode() if written else None,
        "extra": _json(end.__pydantic_extra__),
    }
    return frame(_write({"end": record}))


def _with_extra(usage: LLMUsageSchema) -> dict[str, Any]:
    return {**usage.__dict__, "extra": _json(usage.__pydantic_extra__)}


def _json(extra: Extra) -> str | None:
    return to_json(extra).decode() if extra else None


def decode(value: bytes) -> CallEndReq:
    """The whole call, equal to the one that was encoded; Rejected if these bytes were not written by `encode`.

    Limits on texts and times are not judged here, and a status may have any name, as in the worker.
    """
    body = unframe(value)
    (values,), end_of_record = _read(_read_whole, body)
    if end_of_record != len(body):
        raise Rejected(DeadLetterReason.UNDECODABLE, "there are bytes behind the record")
    end = dict(zip(_END_FIELDS, values, strict=True))
    usage, status_counts, summary_extra = end["summary"]
    models = {model: _object(dict(zip(USAGE_FIELDS, counts, strict=True)), extra) for model, (*counts, extra) in usage}
    _refuse_repeats("usage", usage)
    _refuse_repeats("status_counts", status_counts)
    end["summary"] = _object({"usage": models, "status_counts": dict(status_counts)}, summary_extra)
    end["ended_at"], end["started_at"] = _time(end["ended_at"]), _time(end["started_at"])
    output, extra = end["output"], end.pop("extra")
    request = _object(end | {"output": None}, extra)
    if output is not None:
        request["output"] = _from_json("output", output)
    try:
        return CallEndReq.model_validate({"end": request})
    except ValidationError as error:
        raise Rejected(DeadLetterReason.INVALID, "; ".join(detail.msg for detail in details_of(error))) from None


def decode_counted(value: bytes, *, record_time_ms: int, horizon_days: int) -> CountedCall:
    """What is counted of a record, or Rejected by the rules of processor.codec.rules.

    `record_time_ms`: the broker's timestamp of the record.
    """
    body = unframe(value)
    ((project_id, call_id, ended_at_us, exception, (usage, status_counts, _)),), _ = _read(_read_cut, body)
    call = CountedCall(
        project_id=project_id,
        id=call_id,
        ended_at_us=ended_at_us,
        failed=exception is not None,
        usage=tuple((model, tuple(count or 0 for count in counts)) for model, (*counts, _) in usage),
        status_counts=tuple(status_counts),
    )
    for problem in invalid(call):
        raise Rejected(DeadLetterReason.INVALID, problem)
    for problem in outside_horizon(call, worker_window(record_time_ms, horizon_days), horizon_days):
        raise Rejected(DeadLetterReason.OUTSIDE_HORIZON, problem)
    return call


def _read(read: Read, body: bytes) -> tuple[Any, int]:
    try:
        return read(body, 0)
    except IndexError:
        raise Rejected(DeadLetterReason.UNDECODABLE, "the record ends too early") from None
    except Malformed as error:
        raise Rejected(DeadLetterReason.UNDECODABLE, str(error)) from None


def _object(fields: dict[str, Any], extra: str | None) -> dict[str, Any]:
    """The fields that are there, and beside them the unknown keys."""
    there = {name: value for name, value in fields.items() if value is not None}
    if extra is None:
        return there
    unknown = _from_json("extra", extra)
    if not isinstance(unknown, dict) or unknown.keys() & fields.keys():
        raise Rejected(DeadLetterReason.INVALID, "extra must be a JSON object without keys of the contract")
    return unknown | there


def _from_json(field: str, text: str) -> Any:
    try:
        return from_json(text)
    except ValueError:
        raise Rejected(DeadLetterReason.INVALID, f"{field} must be JSON text") from None


def _refuse_repeats(field: str, pairs: Sequence[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) < len(pairs):
        raise Rejected(DeadLetterReason.INVALID, f"{field} must have no key twice")


def _time(since_us: int | None) -> datetime | None:
    try:
        return None if since_us is None else EPOCH + timedelta(microseconds=since_us)
    except OverflowError:
        raise Rejected(DeadLetterReason.INVALID, "a time must lie in the years 1 to 9999") from None
