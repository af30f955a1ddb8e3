"""One call <-> one value of the topic, and the worker's verdict on values that anybody may have written."""

import io
import json
import tracemalloc
from datetime import datetime
from typing import Any

import fastavro
import pytest

from processor.calls import USAGE_FIELDS, CallEndReq, LLMUsageSchema
from processor.codec.framing import frame
from processor.codec.rows import decode, decode_counted, encode
from processor.codec.schema import CUT_SCHEMA, SCHEMA
from processor.counting.rows import CountedCall
from processor.errors import DeadLetterReason, Rejected
from tests import avro_bytes as avro
from tests.bodies import HORIZON_DAYS, LEAST_END, NOW, SDK_END, body, body_with, parse, usage
from tests.factories import NOON_MS, NOON_US, uuid7

DAY_US = 24 * 3_600_000_000
UNDECODABLE, INVALID = DeadLetterReason.UNDECODABLE, DeadLetterReason.INVALID
OUTSIDE_HORIZON, UNKNOWN_SCHEMA = DeadLetterReason.OUTSIDE_HORIZON, DeadLetterReason.UNKNOWN_SCHEMA


def counted(value: bytes) -> CountedCall:
    return decode_counted(value, record_time_ms=NOON_MS, horizon_days=HORIZON_DAYS)


def verdict(value: bytes) -> tuple[DeadLetterReason, str]:
    with pytest.raises(Rejected) as caught:
        counted(value)
    return caught.value.reason, caught.value.detail


def reason(value: bytes) -> DeadLetterReason:
    return verdict(value)[0]


def sdk_call() -> CallEndReq:
    return parse(json.dumps({"end": SDK_END}).encode())


# Whole calls


def test_a_call_read_back_equals_the_one_that_was_written() -> None:
    for text in (
        json.dumps({"end": SDK_END}).encode(),
        body(),
        body(exception="", is_eval=True, trace_id="", started_at="0001-01-01T00:00:00Z", wb_run_step_end=-(2**63)),
        body(ended_at=NOW.replace(microsecond=1).isoformat(), started_at="9999-12-31T23:59:59.999999Z"),
        body(display_name="d", nothing=None, summary={"weave": {"a": [None]}, "usage": {"": {"cost": 0.1}, "m": {}}}),
        body(output={"a": [1, -0.0, 5e-324, 1.7976931348623157e308, "é\U0001f600\x7f", True, None, {"": 10**4299}]}),
        body(extra=1, output="null", summary={"extra": {}, "output": 1, "usage": {"m": {"extra": "", "output": None}}}),
    ):
        call = parse(text)
        again = decode(encode(call))
        assert again == call
        assert again.model_dump_json() == call.model_dump_json()
        assert again.end.output == call.end.output


@pytest.mark.parametrize("output", [None, "null", 0, "", [], {}, False, -0.0, [None], {"a": None}])
def test_output_keeps_its_value_and_null_is_not_absent(output: Any) -> None:
    again = decode(encode(parse(body(output=output)))).end
    assert "output" in again.model_fields_set
    assert repr(again.output) == repr(output)
    assert "output" not in decode(encode(parse(body()))).end.model_fields_set


def test_output_is_not_written_if_it_is_not_to_be_kept() -> None:
    secret = parse(body(output="SECRET", display_name="d"))
    value = encode(secret, keep_output=False)
    assert b"SECRET" not in value
    assert decode(value) == parse(body(display_name="d"))
    assert "output" not in decode(value).end.model_fields_set


@pytest.mark.parametrize("key", ["_fields_set", "__dict__", "model_fields", "self", "values", "end", "extra", "\x7f"])
def test_an_unknown_key_may_have_any_name(key: str) -> None:
    call = parse(body(**{key: 1}, summary={key: [2], "usage": {"m": {key: {"a": 3}}}}))
    assert decode(encode(call)) == call


def test_the_wire_is_frozen() -> None:
    call = parse(json.dumps({"end": SDK_END | {"display_name": "d"}}).encode())
    entry = avro.usage_entry("gpt-4o", 10, None, 20, None, 1, 30)
    statuses = [avro.status_entry("success", 1), avro.status_entry("error", 0)]
    tail = (
        avro.some(avro.text(uuid7(2)))
        + avro.some(avro.long(NOON_US))
        + avro.some(b"\x00")
        + avro.NULL
        + avro.some(avro.text('{"choices":[{"message":{"role":"assistant","content":"hello"}}]}'))
        + avro.some(avro.text('{"display_name":"d"}'))
    )
    assert encode(call) == avro.value(tail, call_id=uuid7(1), usage=[entry], status_counts=statuses)
    assert encode(parse(body())) == avro.value()


def test_any_avro_library_reads_what_we_write() -> None:
    read: Any = fastavro.schemaless_reader(io.BytesIO(encode(sdk_call())[10:]), fastavro.parse_schema(SCHEMA))
    assert read["end"]["ended_at"] == read["end"]["started_at"] == NOW
    assert isinstance(read["end"]["ended_at"], datetime)
    assert read["end"]["summary"]["usage"]["gpt-4o"] == {
        **dict.fromkeys(LLMUsageSchema.model_fields),
        "extra": None,
        **SDK_END["summary"]["usage"]["gpt-4o"],
    }


def test_the_schema_has_the_eight_fields_in_their_order_and_a_word_on_every_field() -> None:
    (end,) = SCHEMA["fields"]
    names = [field["name"] for field in end["type"]["fields"]]
    summary = end["type"]["fields"][names.index("summary")]["type"]
    of_usage = summary["fields"][0]["type"]["values"]
    assert names[:5] == ["project_id", "id", "ended_at", "exception", "summary"]
    assert names[-2:] == ["output", "extra"]
    assert [field["name"] for field in of_usage["fields"]] == [*USAGE_FIELDS, "extra"]
    for field in (end, *end["type"]["fields"], *summary["fields"], *of_usage["fields"]):
        assert field["doc"]
        assert ("default" in field) == (isinstance(field["type"], list))


def test_the_models_name_the_eight_fields_in_their_order() -> None:
    assert tuple(LLMUsageSchema.model_fields) == USAGE_FIELDS


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (avro.value() + b"\x00", UNDECODABLE),
        (avro.value()[:-1], UNDECODABLE),
        (avro.value(b"\x00" * 5 + avro.some(avro.text("[]"))), INVALID),
        (avro.value(b"\x00" * 5 + avro.some(avro.text("{"))), INVALID),
        (avro.value(b"\x00" * 5 + avro.some(avro.text('{"id": "other"}'))), INVALID),
        (avro.value(b"\x00" * 5 + avro.some(avro.text('{"output": 1}'))), INVALID),
        (avro.value(b"\x00" * 4 + avro.some(avro.text("[" * 100_000)) + b"\x00"), INVALID),
        (avro.value(b"\x00" + avro.some(avro.long(2**62)) + b"\x00" * 4), INVALID),
        (avro.value(b"\x00" * 2 + avro.some(b"\x02") + b"\x00" * 3), UNDECODABLE),
        (avro.value(ended_at_us=2**63 - 1), INVALID),
        (avro.value(usage=[avro.usage_entry("m", 10**12 + 1)]), INVALID),
        (avro.value(usage=[avro.usage_entry("m"), avro.usage_entry("m")]), INVALID),
        (avro.value(status_counts=[avro.status_entry("a", 1), avro.status_entry("a", 1)]), INVALID),
        (avro.value(extra='{"usage": {}}'), INVALID),
        (b"\x00\x00\x00\x00\x01", UNKNOWN_SCHEMA),
    ],
)
def test_a_whole_call_is_rejected_if_we_cannot_have_written_it(value: bytes, reason: DeadLetterReason) -> None:
    with pytest.raises(Rejected) as caught:
        decode(value)
    assert caught.value.reason == reason


# What is counted


def test_a_counted_call_has_the_counts_in_the_order_of_the_wire() -> None:
    assert counted(encode(sdk_call())) == CountedCall(
        project_id="acme/chat",
        id=uuid7(1),
        ended_at_us=NOON_US,
        failed=False,
        usage=(("gpt-4o", (10, 0, 20, 0, 1, 30, 0, 0)),),
        status_counts=(("success", 1), ("error", 0)),
    )


def test_t2_a_call_failed_if_its_exception_is_not_null_be_it_empty() -> None:
    assert counted(encode(parse(body(exception="")))).failed
    assert not counted(encode(parse(body(exception=None, summary={"status_counts": {"error": 1}})))).failed


def test_t6_aliases_stay_apart() -> None:
    counts = dict(zip(USAGE_FIELDS, range(1, 9), strict=True))
    assert counted(encode(parse(usage(**counts)))).usage == (("gpt-4o", (1, 2, 3, 4, 5, 6, 7, 8)),)


def test_t8_total_tokens_are_as_given_and_t9_absent_requests_are_0() -> None:
    ((_, counts),) = counted(encode(parse(usage(prompt_tokens=1, total_tokens=100)))).usage
    assert counts == (1, 0, 0, 0, 0, 100, 0, 0)


def test_t10_a_null_count_counts_as_nothing_but_the_model_was_named() -> None:
    assert counted(encode(parse(usage(prompt_tokens=None)))).usage == (("gpt-4o", (0,) * 8),)


def test_t13_negative_counts_are_counted() -> None:
    assert counted(encode(parse(usage(prompt_tokens=-(10**12))))).usage == (("gpt-4o", (-(10**12),) + (0,) * 7),)


def test_t14_unknown_numbers_are_kept_and_not_counted() -> None:
    call = parse(body(summary={"usage": {"m": {"reasoning_tokens": 7}}, "other": 3}))
    assert counted(encode(call)).usage == (("m", (0,) * 8),)
    assert decode(encode(call)).end.summary.usage["m"].model_extra == {"reasoning_tokens": 7}


def test_t15_a_status_unknown_to_the_door_is_counted_under_its_own_name() -> None:
    for status in ("cancelled", "", "é" * 32, "x" * 64):
        value = avro.value(status_counts=[avro.status_entry(status, 3)])
        assert counted(value).status_counts == ((status, 3),)
        assert decode(value).end.summary.status_counts == {status: 3}
    for status in ("x" * 65, "é" * 33, "a\0"):
        assert reason(avro.value(status_counts=[avro.status_entry(status, 3)])) == INVALID


def test_what_stands_behind_the_summary_is_judged_by_nobody() -> None:
    whole = counted(avro.value())
    for tail in (b"", b"\xff" * 40, avro.TAIL + b"more", avro.some(avro.long(2**62))):
        assert counted(avro.value(tail)) == whole
    assert counted(avro.value(exception="a\0", extra="not JSON")).failed


# Verdicts


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"project_id": "e"}, "project_id must be entity/project"),
        ({"project_id": "/p"}, "project_id must be entity/project"),
        ({"project_id": "e/" + "x" * 255}, "project_id must have 1 to 256 bytes"),
        ({"project_id": "e/\0"}, "project_id must not contain the character NUL"),
        ({"call_id": ""}, "id must have 1 to 256 bytes"),
        ({"call_id": "x" * 257}, "id must have 1 to 256 bytes"),
        ({"call_id": "x\0"}, "id must not contain the character NUL"),
        ({"usage": [avro.usage_entry(f"m{n}") for n in range(257)]}, "usage must have at most 256 entries"),
        ({"usage": [avro.usage_entry(f"m{n}") for n in range(999)]}, "usage must have at most 256 entries"),
        ({"usage": [avro.usage_entry("m"), avro.usage_entry("m")]}, "usage must have no key twice"),
        ({"usage": [avro.usage_entry("x" * 513)]}, "a key of usage must have 0 to 512 bytes"),
        ({"usage": [avro.usage_entry("a\0")]}, "a key of usage must not contain the character NUL"),
        ({"usage": [avro.usage_entry("m", 0, 10**12 + 1)]}, "input_tokens must be within +-1000000000000"),
        ({"usage": [avro.usage_entry("m", -(2**63))]}, "prompt_tokens must be within +-1000000000000"),
        ({"status_counts": [avro.status_entry(f"s{n}", 0) for n in range(65)]}, "status_counts must have at most 64"),
        ({"status_counts": [avro.status_entry("s", 0)] * 2}, "status_counts must have no key twice"),
        ({"status_counts": [avro.status_entry("s", -(10**12) - 1)]}, "a status count must be within"),
    ],
)
def test_a_record_that_breaks_a_rule_of_the_contract_is_invalid(fields: dict[str, Any], detail: str) -> None:
    found, said = verdict(avro.value(**fields))
    assert (found, said[: len(detail)]) == (INVALID, detail)


def test_limits_are_met_at_their_edge() -> None:
    call = counted(
        avro.value(
            project_id="e/" + "x" * 254,
            call_id="é" * 128,
            usage=[avro.usage_entry(f"m{n}" if n else "", 10**12) for n in range(255)] + [avro.usage_entry("x" * 512)],
            status_counts=[avro.status_entry(f"s{n}", -(10**12)) for n in range(64)],
        )
    )
    assert (len(call.usage), len(call.status_counts)) == (256, 64)


def test_the_horizon_is_measured_against_the_record_and_its_ends_are_included() -> None:
    oldest, newest = NOON_US - HORIZON_DAYS * DAY_US, NOON_US + 25 * 3_600_000_000
    for time_us in (oldest, newest):
        assert counted(avro.value(ended_at_us=time_us)).ended_at_us == time_us
        counted(avro.value(call_id=uuid7(1, time_us // 1000)))
    for time_us in (oldest - 1, newest + 1, 2**63 - 1, -(2**63)):
        found, said = verdict(avro.value(ended_at_us=time_us))
        assert (found, said[:8]) == (OUTSIDE_HORIZON, "ended_at")
    for time_ms in (oldest // 1000 - 1, newest // 1000 + 1):
        found, said = verdict(avro.value(call_id=uuid7(1, time_ms)))
        assert (found, said[:14]) == (OUTSIDE_HORIZON, "the time in id")


def test_of_several_reasons_undecodable_wins_over_invalid_and_invalid_over_the_horizon() -> None:
    wrong: dict[str, Any] = {"project_id": "e", "ended_at_us": 0}
    assert reason(avro.value(**wrong)) == INVALID
    assert reason(avro.value(**wrong, status_counts=avro.long(2**40))) == UNDECODABLE
    assert reason(avro.value(**wrong, usage=[avro.usage_entry("m")] * 300, extra=b"\xff")) == UNDECODABLE
    assert verdict(avro.value(project_id="e", call_id=""))[1].startswith("project_id")
    assert reason(b"\xc3\x01" + b"\x00" * 8) == UNKNOWN_SCHEMA


@pytest.mark.parametrize("length", range(len(avro.counted_part())))
def test_a_cut_record_is_undecodable(length: int) -> None:
    assert reason(frame(avro.counted_part()[:length])) == UNDECODABLE


OVERLONG = b"\x80" * 10 + b"\x00"
HUGE = [avro.long(number) for number in (2**40, 2**62, 2**63 - 1, -1, -(2**40), -(2**63))]


@pytest.mark.parametrize("length", [*HUGE, OVERLONG, b"\xff" * 9 + b"\x7f", b"\xff" * 30])
def test_a_text_of_impossible_length_is_undecodable(length: bytes) -> None:
    assert reason(frame(length + b"acme/chat")) == UNDECODABLE
    key = avro.counted_part(usage=avro.long(1) + length + b"m")
    assert reason(frame(key)) == UNDECODABLE


def test_a_negative_length_never_leads_backwards() -> None:
    """Going back one byte, the length itself would be read again, as the time, and the rest would be a record."""
    rest = avro.counted_part()[len(avro.text("acme/chat") + avro.text("call-1") + avro.long(NOON_US)) :]
    found, said = verdict(frame(avro.text("acme/chat") + avro.long(-1) + rest + avro.TAIL))
    assert (found, said) == (UNDECODABLE, "a text is longer than the record")


def test_a_count_beyond_the_record_is_refused_before_any_item_is_read() -> None:
    part = avro.counted_part(usage=avro.long(2**40) + avro.usage_entry("m"))
    assert verdict(frame(part)) == (UNDECODABLE, "a block has more items than the record has bytes")


@pytest.mark.parametrize("count", [number for number in HUGE if number not in (avro.long(-1), avro.long(-(2**63)))])
@pytest.mark.parametrize("field", ["usage", "status_counts"])
def test_a_block_of_impossible_length_is_undecodable(field: str, count: bytes) -> None:
    for rest in (b"", b"\x00" * 40):
        assert reason(avro.value(**{field: count + rest})) == UNDECODABLE


def test_a_count_that_cannot_be_negated_is_a_block_without_items_as_in_the_column_reader() -> None:
    odd = avro.long(-(2**63)) + avro.long(0)
    value = avro.value(usage=odd + b"\x00", status_counts=odd + b"\x00")
    call = counted(value)
    assert (call.usage, call.status_counts) == ((), ())


@pytest.mark.parametrize("field", ["project_id", "call_id", "exception", "extra"])
@pytest.mark.parametrize("data", [b"\xff", b"e/\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"])
def test_text_that_is_not_utf8_is_undecodable_in_every_field_up_to_the_summary(field: str, data: bytes) -> None:
    assert reason(avro.value(**{field: data})) == UNDECODABLE
    assert reason(avro.value(usage=[avro.usage_entry(data)])) == UNDECODABLE
    assert reason(avro.value(status_counts=[avro.status_entry(data, 1)])) == UNDECODABLE


@pytest.mark.parametrize("branch", [avro.long(2), avro.long(-1), avro.long(2**62)])
def test_an_unknown_branch_of_a_union_is_undecodable(branch: bytes) -> None:
    head = avro.text("acme/chat") + avro.text("call-1") + avro.long(NOON_US)
    assert reason(frame(head + branch + b"\x00" * 40)) == UNDECODABLE


def test_the_same_map_may_be_written_in_several_blocks_and_with_sizes() -> None:
    one, two = avro.usage_entry("one", 1), avro.usage_entry("two", 2)
    expected = counted(avro.value(usage=[one, two]))
    assert len(expected.usage) == 2
    for written in (
        avro.long(1) + one + avro.long(1) + two + avro.long(0),
        avro.sized_block(one, two),
        avro.sized_block(one, two, size=-5),  # nobody looks at it
        avro.long(1) + one + avro.sized_block(two),
    ):
        assert counted(avro.value(usage=written)) == expected
    twice = avro.long(1) + one + avro.sized_block(one)
    assert reason(avro.value(usage=twice)) == INVALID


def test_an_integer_may_be_written_longer_than_needed_up_to_ten_bytes() -> None:
    plain = avro.counted_part()
    assert counted(frame(avro.long(9, spare_bytes=9) + plain[1:])) == counted(frame(plain))
    assert reason(frame(avro.long(9, spare_bytes=10) + plain[1:])) == UNDECODABLE


def test_bits_beyond_64_of_an_integer_fall_away() -> None:
    plain = avro.counted_part()
    nine = bytes([avro.long(9)[0] | 0x80]) + b"\x80" * 8 + b"\x02"
    assert counted(frame(nine + plain[1:])) == counted(frame(plain))


def test_a_hostile_record_costs_no_more_memory_than_its_own_size() -> None:
    entries = 200_000
    hostile = avro.value(status_counts=avro.long(entries) + avro.status_entry("", 0) * entries + avro.long(0))
    tracemalloc.start()
    assert reason(hostile) == INVALID
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * len(hostile)


def test_a_detail_never_contains_what_the_record_says() -> None:
    for fields in (
        {"project_id": "MARKER"},
        {"call_id": "MARKER" * 50},
        {"call_id": b"MARKER\xff"},
        {"usage": [avro.usage_entry("MARKER", 918273645546000)]},
        {"usage": [avro.usage_entry("MARKER")] * 2},
        {"status_counts": [avro.status_entry("MARKER" * 20, 1)]},
        {"ended_at_us": 918273645546},
    ):
        said = repr(verdict(avro.value(**fields)))
        assert "MARKER" not in said
        assert "91827" not in said


def test_our_reader_agrees_with_a_library_on_the_cut_schema() -> None:
    value = encode(parse(body(**SDK_END | {"exception": "é", "summary": {**SDK_END["summary"], "x": 1}})))
    read: Any = fastavro.schemaless_reader(io.BytesIO(value[10:]), fastavro.parse_schema(CUT_SCHEMA))
    call = counted(value)
    assert [(entry["key"], entry["value"]) for entry in read["end"]["summary"]["status_counts"]] == [
        *call.status_counts
    ]
    ((model, counts),) = call.usage
    (entry,) = read["end"]["summary"]["usage"]
    assert (entry["key"], tuple(entry["value"][field] or 0 for field in USAGE_FIELDS)) == (model, counts)
    assert read["end"].keys() == {*LEAST_END, "exception"}


def test_big_output_does_not_matter_to_the_counted_call() -> None:
    call = parse(body_with("output", '"' + "x" * 1_000_000 + '"'))
    assert counted(encode(call)) == counted(encode(call, keep_output=False))
