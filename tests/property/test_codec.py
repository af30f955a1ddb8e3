"""Laws of body and record: nothing that a client sends is lost, and no bytes at all can do harm."""

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import fastavro
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from processor.calls import USAGE_FIELDS, CallEndReq, TraceStatus, id_time_ms
from processor.codec.framing import HEADER_V1, frame
from processor.codec.rows import decode, decode_counted, encode
from processor.codec.schema import CUT_SCHEMA
from processor.counting.rows import CountedCall
from processor.errors import InvalidCall, Rejected
from processor.limits import worker_window
from tests import avro_bytes as avro
from tests.bodies import HORIZON_DAYS, NOW, parse
from tests.factories import NOON_MS, NOON_US, uuid7
from tests.property.cases import LAW

PARSED_CUT = fastavro.parse_schema(CUT_SCHEMA)

# What a client may send

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
digits = st.builds(lambda digits, sign: sign * (10**digits - 1), st.integers(0, 4300), st.sampled_from((1, -1)))
json_values = st.recursive(
    st.none() | st.booleans() | numbers | digits | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
counts = st.integers(-(10**12), 10**12)
spelled = st.none() | counts | counts.map(str) | counts.map(float) | st.booleans()  # 10^12 is exact as a float
microseconds = st.integers(-34 * 86_400 * 10**6, 86_400 * 10**6)
times = microseconds.map(lambda us: NOW + timedelta(microseconds=us))
call_ids = texts.filter(bool) | st.builds(
    uuid7, st.integers(0, 2**60 - 1), st.integers(NOON_MS - 10**9, NOON_MS + 10**7)
)


def unknown(*fields: str) -> st.SearchStrategy[dict[str, Any]]:
    keys = texts | st.sampled_from(("extra", "end", "self", "_fields_set", "model_config", "requests", "output"))
    return st.dictionaries(keys.filter(lambda key: key not in fields), json_values, max_size=2)


def objects(optional: dict[str, st.SearchStrategy[Any]], **required: st.SearchStrategy[Any]) -> Any:
    """A JSON object with the required fields, some of the optional ones, and unknown keys."""
    known = st.fixed_dictionaries(required, optional=optional)
    return st.builds(lambda more, fields: more | fields, unknown(*optional, *required), known)


summaries = objects(
    {
        "usage": st.dictionaries(texts, objects(dict.fromkeys(USAGE_FIELDS, spelled)), max_size=2),
        "status_counts": st.dictionaries(st.sampled_from([*map(str, TraceStatus)]), counts, max_size=4),
    }
)
ends = objects(
    {
        "exception": st.none() | texts,
        "output": json_values,
        "wb_run_step_end": st.none() | st.integers(-(2**63), 2**63 - 1),
        "trace_id": st.none() | texts,
        "started_at": st.none() | st.datetimes(timezones=st.none() | st.just(UTC)).map(datetime.isoformat),
        "is_eval": st.none() | st.booleans(),
    },
    project_id=st.tuples(texts.map(lambda text: text.replace("/", "-")).filter(bool), texts.filter(bool)).map("/".join),
    id=call_ids,
    ended_at=times.map(datetime.isoformat),
    summary=summaries,
)
bodies = st.builds(
    lambda end, ascii_only: json.dumps({"end": end}, ensure_ascii=ascii_only).encode(), ends, st.booleans()
)


def taken(body: bytes) -> CallEndReq:
    """The call; a body whose NUL or depth was not foreseen here would be a mistake of these tests."""
    return parse(body)


@LAW
@given(ends, st.booleans(), st.integers(-3_600_000, 86_400_000))
def test_a_valid_body_comes_through_avro_whole_and_is_counted(
    end: dict[str, Any], ascii_only: bool, late_ms: int
) -> None:
    call = parse(json.dumps({"end": end}, ensure_ascii=ascii_only).encode())
    value = encode(call)
    assert_the_same(decode(value), call)
    assert_free_values_are_kept(call, end)
    # Even if the broker's clock is an hour behind the door's, or the record comes a day later:
    counted = decode_counted(value, record_time_ms=NOON_MS + late_ms, horizon_days=HORIZON_DAYS)
    assert counted == counted_of(call)
    assert counted == decode_counted(encode(call, keep_output=False), record_time_ms=NOON_MS, horizon_days=HORIZON_DAYS)


def assert_the_same(again: CallEndReq, call: CallEndReq) -> None:
    assert again == call
    assert repr(again.model_dump()) == repr(call.model_dump())  # 1, 1.0 and True are equal, but not the same
    assert ("output" in again.end.model_fields_set) == ("output" in call.end.model_fields_set)


def assert_free_values_are_kept(call: CallEndReq, end: dict[str, Any]) -> None:
    assert ("output" in call.end.model_fields_set) == ("output" in end)
    assert repr(call.end.output) == repr(end.get("output"))
    for model, sent in (
        (call.end, end),
        (call.end.summary, end["summary"]),
        *((usage, end["summary"]["usage"][name]) for name, usage in call.end.summary.usage.items()),
    ):
        unknown = {key: value for key, value in sent.items() if key not in type(model).model_fields}
        assert repr(model.model_extra) == repr(unknown)


def counted_of(call: CallEndReq) -> CountedCall:
    """What is counted of a call, by the names of the contract instead of the order of the wire."""
    end, summary = call.end, call.end.summary
    return CountedCall(
        project_id=end.project_id,
        id=end.id,
        ended_at_us=NOON_US + (end.ended_at - NOW) // timedelta(microseconds=1),
        failed=end.exception is not None,
        usage=tuple(
            (model, tuple(getattr(usage, field) or 0 for field in USAGE_FIELDS))
            for model, usage in summary.usage.items()
        ),
        status_counts=tuple(summary.status_counts.items()),
    )


# What anybody may write to the topic

GOOD = avro.value(
    call_id=uuid7(1),
    exception="ValueError: é",
    usage=[avro.usage_entry("gpt-4o", 10, None, 20, None, 1, 30), avro.usage_entry("", extra='{"cost":0.5}')],
    status_counts=[avro.status_entry("success", 1), avro.status_entry("error", 0)],
    extra='{"weave":{}}',
)
longs = st.builds(
    lambda number, spare: avro.long(number, spare_bytes=spare),
    st.integers(-(2**63), 2**63 - 1) | st.sampled_from((0, 1, -1, 2, 256, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))),
    st.sampled_from((0, 0, 0, 1, 9, 12)),
)
raw_texts = st.binary(max_size=12) | texts.map(str.encode) | st.integers(0, 600).map(lambda size: b"x" * size)
wild_counts = st.lists(st.none() | counts | st.integers(-(2**63), 2**63 - 1), max_size=8)
wild_usage = st.builds(lambda model, eight: avro.usage_entry(model, *eight), raw_texts, wild_counts)
wild_status = st.builds(avro.status_entry, raw_texts, counts | st.integers(-(2**63), 2**63 - 1))
KNOWN_ENTRIES = (avro.usage_entry("m", 1), avro.usage_entry("n", 2), avro.usage_entry("", 3))


def maps(entries: st.SearchStrategy[bytes]) -> st.SearchStrategy[Any]:
    lists = st.lists(entries, max_size=4)
    many = st.integers(0, 300).map(lambda number: [avro.usage_entry(f"m{n}") for n in range(number)])
    return lists | lists.map(lambda items: avro.sized_block(*items)) | many | st.binary(max_size=20)


wild_records = st.builds(
    lambda tail, fields: avro.value(tail, **fields),
    st.sampled_from((avro.TAIL, b"", b"\xff" * 9)) | st.binary(max_size=20),
    st.fixed_dictionaries(
        {},
        optional={
            "project_id": raw_texts.map(lambda text: b"e/" + text) | raw_texts,
            "call_id": raw_texts | call_ids,
            "ended_at_us": st.integers(-(2**63), 2**63 - 1) | st.integers(NOON_US - 4 * 10**12, NOON_US + 10**11),
            "exception": st.none() | raw_texts,
            "usage": maps(st.sampled_from(KNOWN_ENTRIES) | wild_usage),
            "status_counts": maps(wild_status),
            "extra": st.none() | raw_texts,
        },
    ),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good record, some of whose bytes are changed, cut off, put in, or written twice."""
    value = draw(st.sampled_from((GOOD, avro.value())) | bodies.map(lambda body: encode(parse(body))))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(value)))
        size = draw(st.integers(0, 12))
        piece = draw(
            st.binary(max_size=12)
            | longs
            | raw_texts.map(avro.text)
            | st.just(value[at : at + size] * draw(st.integers(0, 3)))
        )
        value = value[:at] + piece + value[at + size :]
    return value


hostile = mutated() | wild_records | st.binary(max_size=60).map(frame) | st.binary(max_size=40)


@LAW
@given(hostile, st.binary(max_size=9))
@example(GOOD, b"\xff")
@example(HEADER_V1, b"")
def test_any_bytes_at_all_are_a_call_that_comes_back_whole_and_is_counted_by_the_rules_or_rejected(
    value: bytes, tail: bytes
) -> None:
    assert_whole_or_rejected(value)
    try:
        call = decode_counted(value, record_time_ms=NOON_MS, horizon_days=HORIZON_DAYS)
    except Rejected:
        return
    assert_within_the_rules(call)
    assert call == read_by_a_library(value)
    # What stands behind the summary is judged by nobody:
    assert call == decode_counted(value + tail, record_time_ms=NOON_MS, horizon_days=HORIZON_DAYS)


def assert_whole_or_rejected(value: bytes) -> None:
    try:
        call = decode(value)
    except Rejected:
        return
    assert decode(encode(call)) == call


def assert_within_the_rules(call: CountedCall) -> None:
    """The rules, spelled out a second time."""
    keys = [
        call.project_id,
        call.id,
        *(model for model, _ in call.usage),
        *(status for status, _ in call.status_counts),
    ]
    assert not any("\0" in key for key in keys)
    assert all(call.project_id.partition("/"))
    assert 1 <= len(call.project_id.encode()) <= 256
    assert 1 <= len(call.id.encode()) <= 256
    assert len(dict(call.usage)) == len(call.usage) <= 256
    assert len(dict(call.status_counts)) == len(call.status_counts) <= 64
    assert all(len(model.encode()) <= 512 for model, _ in call.usage)
    assert all(len(status.encode()) <= 64 for status, _ in call.status_counts)
    counts = [*(count for _, eight in call.usage for count in eight), *(count for _, count in call.status_counts)]
    assert all(abs(count) <= 10**12 for count in counts)
    oldest_us, newest_us = worker_window(NOON_MS, HORIZON_DAYS)
    assert oldest_us <= call.ended_at_us <= newest_us
    assert oldest_us <= (id_time_ms(call.id) or NOON_MS) * 1000 <= newest_us


def read_by_a_library(value: bytes) -> CountedCall:
    read: Any = fastavro.schemaless_reader(io.BytesIO(value[len(HEADER_V1) :]), PARSED_CUT)
    end, summary = read["end"], read["end"]["summary"]
    ended_at = end["ended_at"]
    return CountedCall(
        project_id=end["project_id"],
        id=end["id"],
        ended_at_us=NOON_US + (ended_at - NOW) // timedelta(microseconds=1),
        failed=end["exception"] is not None,
        usage=tuple(
            (entry["key"], tuple(entry["value"][field] or 0 for field in USAGE_FIELDS)) for entry in summary["usage"]
        ),
        status_counts=tuple((entry["key"], entry["value"]) for entry in summary["status_counts"]),
    )


# What anybody may send to the door


@st.composite
def bent_bodies(draw: st.DrawFn) -> bytes:
    body = draw(bodies)
    for _ in range(draw(st.integers(1, 3))):
        at, size = draw(st.integers(0, len(body))), draw(st.integers(0, 12))
        words = (
            b"NaN",
            b"1e999",
            b'"\\ud800"',
            b'"\\u0000"',
            b"[" * 120,
            b"{",
            b'"',
            b",",
            b"null",
            b"\xff",
            b"-",
            b"0",
        )
        body = body[:at] + draw(st.binary(max_size=8) | st.sampled_from(words)) + body[at + size :]
    return body


wrong_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from((10**13, "9" * 600)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
wrong_bodies = st.builds(
    lambda end, field, value: json.dumps({"end": end | {field: value}}).encode(),
    ends,
    st.sampled_from(
        ("project_id", "id", "ended_at", "summary", "output", "exception", "trace_id", "started_at", "other")
    ),
    wrong_values,
)


@LAW
@given(
    bent_bodies() | wrong_bodies | wrong_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)
)
def test_any_body_at_all_is_a_call_that_can_be_counted_or_refused_in_the_one_shape(body: bytes) -> None:
    try:
        call = parse(body)
    except InvalidCall as error:
        refusal = error
    else:
        value = encode(call)
        assert decode(value) == call
        assert_within_the_rules(decode_counted(value, record_time_ms=NOON_MS, horizon_days=HORIZON_DAYS))
        return
    assert 1 <= len(refusal.details) <= 20
    assert all(detail.loc[0] == "body" for detail in refusal.details)
    json.dumps([detail.loc for detail in refusal.details])


def test_the_good_record_of_these_laws_is_good() -> None:
    assert_within_the_rules(decode_counted(GOOD, record_time_ms=NOON_MS, horizon_days=HORIZON_DAYS))
    with pytest.raises(Rejected):
        decode_counted(GOOD[:-20], record_time_ms=NOON_MS, horizon_days=HORIZON_DAYS)
