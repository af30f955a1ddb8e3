"""What the door takes, what it refuses, and what it says then. (T1, T2, ... are traps that other systems fell into.)"""

import json
import os
import time
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from processor.calls import CallEndReq, LLMUsageSchema, TraceStatus, has_negative_count, id_time_ms
from processor.errors import ErrorDetail, InvalidCall
from processor.limits import INT64_MAX, INT64_MIN, door_window, to_us, worker_window
from tests.bodies import HORIZON_DAYS, LEAST_END, NOW, SDK_END, body, body_with, parse, usage
from tests.factories import NOON_MS, uuid7

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def refused(text: bytes) -> tuple[ErrorDetail, ...]:
    with pytest.raises(InvalidCall) as caught:
        parse(text)
    details = caught.value.details
    assert 1 <= len(details) <= 20
    assert all(detail.loc[0] == "body" and detail.msg and detail.type for detail in details)
    return details


def loc(text: bytes) -> tuple[str | int, ...]:
    return refused(text)[0].loc


def counts_of(text: bytes) -> LLMUsageSchema:
    return parse(text).end.summary.usage["gpt-4o"]


# Shape


def test_a_body_as_the_sdk_posts_it_is_taken_whole() -> None:
    end = parse(json.dumps({"end": SDK_END}).encode()).end
    assert (end.project_id, end.id, end.ended_at, end.started_at) == ("acme/chat", uuid7(1), NOW, NOW)
    assert (end.exception, end.wb_run_step_end, end.is_eval, end.trace_id) == (None, None, False, uuid7(2))
    assert end.output == SDK_END["output"]
    assert end.summary.status_counts == {"success": 1, "error": 0}
    assert end.summary.usage["gpt-4o"].total_tokens == 30


def test_unknown_keys_are_kept_in_end_summary_and_usage() -> None:
    summary = {"usage": {"m": {"cost": 0.5, "requests": 1}}, "weave": {"latency_ms": 3}}
    end = parse(body(display_name="d", nothing=None, summary=summary)).end
    assert end.model_extra == {"display_name": "d", "nothing": None}
    assert end.summary.model_extra == {"weave": {"latency_ms": 3}}
    assert end.summary.usage["m"].model_extra == {"cost": 0.5}


def test_an_unknown_key_at_the_top_is_refused() -> None:
    assert loc(body()[:-1] + b', "mode": "end"}') == ("body", "[key]")


@pytest.mark.parametrize("field", LEAST_END)
@pytest.mark.parametrize("value", ["absent", None])
def test_a_required_field_is_neither_absent_nor_null(field: str, value: str | None) -> None:
    end = {name: old for name, old in LEAST_END.items() if name != field} | ({} if value else {field: None})
    assert loc(json.dumps({"end": end}).encode()) == ("body", "end", field)


@pytest.mark.parametrize(
    "text", [b"", b" ", b"{", b"nul", b"\xff\xfe{}", b'{"end": "\xc3"}', b"\xef\xbb\xbf{}", b"'{}'"]
)
def test_what_is_not_json_in_utf8_is_refused_as_a_whole(text: bytes) -> None:
    (detail,) = refused(text)
    assert (detail.loc, detail.type) == (("body",), "json_invalid")


@pytest.mark.parametrize("text", [b"[]", b"null", b"5", b'"end"', b"true"])
def test_json_that_is_no_object_is_refused(text: bytes) -> None:
    assert [(detail.loc, detail.type) for detail in refused(text)] == [(("body",), "model_type")]


def test_output_null_and_output_absent_are_told_apart() -> None:
    assert "output" in parse(body(output=None)).end.model_fields_set
    assert "output" not in parse(body()).end.model_fields_set


def test_an_explicit_null_in_a_field_of_the_contract_equals_absent() -> None:
    nulls: dict[str, Any] = dict.fromkeys(("exception", "wb_run_step_end", "trace_id", "started_at", "is_eval"))
    assert parse(body(**nulls)) == parse(body())


def test_of_a_repeated_key_the_last_one_wins_even_over_a_wrong_one() -> None:
    assert parse(body_with("output", '1, "output": 2')).end.output == 2
    assert parse(body_with("id", '5, "id": "last"')).end.id == "last"
    summary = parse(body_with("summary", '{"usage": {"m": {"requests": "x"}, "m": {"requests": 2}}}')).end.summary
    assert summary.usage["m"].requests == 2
    summary = parse(body_with("summary", '{"status_counts": {"error": "x", "error": 2}}')).end.summary
    assert summary.status_counts == {"error": 2}
    assert loc(body_with("summary", '{"usage": {"m": {"requests": 2}, "m": {"requests": "x"}}}'))[-1] == "requests"


# Counts


def test_t10_a_null_token_count_is_absent_and_a_null_map_is_refused() -> None:
    assert counts_of(usage(prompt_tokens=None)) == counts_of(usage())
    assert loc(body(summary={"usage": None})) == ("body", "end", "summary", "usage")
    assert loc(body(summary={"status_counts": None})) == ("body", "end", "summary", "status_counts")
    assert loc(body(summary={"usage": {"m": None}})) == ("body", "end", "summary", "usage", "[key]")
    assert loc(body(summary={"status_counts": {"error": None}})) == ("body", "end", "summary", "status_counts", "[key]")


@pytest.mark.parametrize("summary", [{}, {"usage": {}}, {"status_counts": {}}, {"usage": {}, "status_counts": {}}])
def test_t10_an_empty_map_is_valid_and_means_nothing(summary: dict[str, Any]) -> None:
    assert parse(body(summary=summary)) == parse(body())


@pytest.mark.parametrize(("spelling", "count"), [("5", 5), (5.0, 5), (True, 1), ("-5", -5), (False, 0), (1e3, 1000)])
def test_t11_integers_are_lax_as_the_original_server_takes_them(spelling: Any, count: int) -> None:
    assert counts_of(usage(prompt_tokens=spelling)).prompt_tokens == count
    assert parse(body(summary={"status_counts": {"error": spelling}})).end.summary.status_counts == {"error": count}
    assert parse(body(wb_run_step_end=spelling)).end.wb_run_step_end == count


@pytest.mark.parametrize(
    "spelling",
    [5.5, "5.5", "", "x", pytest.param("9" * 5000, id="5000 digits"), [], {}, [5], float("nan"), float("inf"), 1e400],
)
def test_t11_but_a_fraction_or_anything_else_is_no_integer(spelling: Any) -> None:
    assert loc(usage(prompt_tokens=spelling)) == ("body", "end", "summary", "usage", "[key]", "prompt_tokens")
    assert loc(body(summary={"status_counts": {"error": spelling}}))[3:] == ("status_counts", "[key]")
    assert loc(body(wb_run_step_end=spelling)) == ("body", "end", "wb_run_step_end")


@pytest.mark.parametrize("sign", [1, -1])
def test_t12_a_count_lies_within_10_to_the_12th_so_that_no_sum_leaves_int64(sign: int) -> None:
    most = sign * 10**12
    for field in LLMUsageSchema.model_fields:
        assert getattr(counts_of(usage(**{field: most})), field) == most
        assert loc(usage(**{field: most + sign}))[-1] == field
    assert parse(body(summary={"status_counts": {"error": most}})).end.summary.status_counts == {"error": most}
    assert loc(body(summary={"status_counts": {"error": most + sign}}))[3:] == ("status_counts", "[key]")
    assert loc(usage(prompt_tokens=sign * 10**4000))[-1] == "prompt_tokens"


def test_t13_negative_counts_pass_and_are_noticed() -> None:
    assert has_negative_count(parse(usage(prompt_tokens=10, output_tokens=-1)))
    assert has_negative_count(parse(body(summary={"status_counts": {"success": 1, "error": -1}})))
    assert not has_negative_count(parse(json.dumps({"end": SDK_END}).encode()))
    assert not has_negative_count(parse(usage(prompt_tokens=0, cost=-1)))


def test_wb_run_step_end_fits_int64() -> None:
    for step in (INT64_MIN, INT64_MAX):
        assert parse(body(wb_run_step_end=step)).end.wb_run_step_end == step
    for step in (INT64_MIN - 1, INT64_MAX + 1):
        assert loc(body(wb_run_step_end=step)) == ("body", "end", "wb_run_step_end")


def test_at_most_256_models() -> None:
    models: dict[str, Any] = {f"model {number}": {} for number in range(256)}
    assert len(parse(body(summary={"usage": models})).end.summary.usage) == 256
    (detail,) = refused(body(summary={"usage": models | {"one more": {}}}))
    assert (detail.loc[-1], detail.msg) == ("usage", "usage must have at most 256 entries")


def test_t15_the_door_knows_the_four_statuses_of_the_contract_only() -> None:
    statuses = dict.fromkeys(TraceStatus, 1)
    assert parse(body(summary={"status_counts": statuses})).end.summary.status_counts == statuses
    for status in ("weird", "", "Success", "success "):
        (detail,) = refused(body(summary={"status_counts": {status: 1}}))
        assert detail.loc == ("body", "end", "summary", "status_counts", "[key]")
        assert detail.msg.endswith("success, error, running, descendant_error")
    assert loc(body(summary={"status_counts": {f"s{number}": 1 for number in range(65)}}))[-1] == "status_counts"


# Texts


@pytest.mark.parametrize("project_id", ["e/p", "É/p", "e//", "e/p/q", "E/P", "e/ ", "e/" + "x" * 254, "e/" + "é" * 127])
def test_a_project_is_two_parts_around_the_first_slash_kept_as_written(project_id: str) -> None:
    assert parse(body(project_id=project_id)).end.project_id == project_id


@pytest.mark.parametrize(
    "project_id", ["", "/", "e", "e/", "/p", "//p", "e/" + "x" * 255, "e/" + "é" * 128, "e/\0", 5, ["e/p"]]
)
def test_other_projects_are_refused(project_id: Any) -> None:
    assert loc(body(project_id=project_id)) == ("body", "end", "project_id")


@pytest.mark.parametrize("call_id", ["x", "x" * 256, "é" * 128, "\U0001f600" * 64, "/", " "])
def test_an_id_has_1_to_256_bytes(call_id: str) -> None:
    assert parse(body(id=call_id)).end.id == call_id


@pytest.mark.parametrize("call_id", ["", "x" * 257, "é" * 128 + "x", "\U0001f600" * 65, "a\0", 5])
def test_other_ids_are_refused(call_id: Any) -> None:
    assert loc(body(id=call_id)) == ("body", "end", "id")


def test_a_model_name_has_at_most_512_bytes_and_an_empty_one_is_kept() -> None:
    for model in ("", "x" * 512, "é" * 256, " "):
        assert list(parse(body(summary={"usage": {model: {}}})).end.summary.usage) == [model]
    for model in ("x" * 513, "é" * 256 + "x", "\0"):
        assert loc(body(summary={"usage": {model: {}}})) == ("body", "end", "summary", "usage", "[key]")


# Free values

PLACES = ("output", "display_name", "summary", "usage")


def at(place: str, json_text: str) -> bytes:
    """A body with this value as `output`, or as an unknown key of `end`, of `summary`, of a usage."""
    if place == "summary":
        return body_with("summary", '{"unknown": ' + json_text + "}")
    if place == "usage":
        return body_with("summary", '{"usage": {"m": {"unknown": ' + json_text + "}}}")
    return body_with(place, json_text)


def surroundings(value: str) -> Iterator[str]:
    yield from (value, f"[1, {value}]", f'{{"a": {value}}}', f'[{{"a": [[{value}]]}}]')


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("surrogate", [r'"\ud800"', r'"\udc00"', r'"\ud800x"', r'"\ud800\ud800"', r'{"\udfff": 1}'])
def test_t17_a_lone_surrogate_is_refused_in_any_key_or_string_at_any_depth(place: str, surrogate: str) -> None:
    for text in surroundings(surrogate):
        refused(at(place, text))


def test_t17_a_pair_of_surrogates_is_the_character_that_it_spells() -> None:
    assert parse(body_with("output", r'"\ud83d\ude00"')).end.output == "\U0001f600"


@pytest.mark.parametrize("field", ["project_id", "id", "exception", "trace_id"])
def test_t17_a_lone_surrogate_is_refused_in_every_text_of_the_contract(field: str) -> None:
    refused(body_with(field, r'"e/p\ud800"'))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 400 + ".0"])
def test_t18_a_number_that_is_not_finite_is_refused_at_any_depth(place: str, number: str) -> None:
    for text in surroundings(number):
        assert refused(at(place, text))[0].type == "finite_number"


def test_t18_the_same_letters_within_a_string_are_harmless() -> None:
    assert parse(body(output=["NaN", "1e400", "\\u0000"])).end.output == ["NaN", "1e400", "\\u0000"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("nul", [r'"\u0000"', r'"a\u0000b"', r'{"\u0000": 1}', r'{"a": {"b\u0000": null}}'])
def test_nul_is_refused_in_any_key_or_string_at_any_depth(place: str, nul: str) -> None:
    for text in surroundings(nul):
        assert refused(at(place, text))[0].type == "nul_character"


def test_nul_is_refused_in_texts_of_the_contract_and_in_unknown_keys_of_every_level() -> None:
    assert loc(body(exception="\0")) == ("body", "end", "exception")
    assert loc(body(trace_id="\0")) == ("body", "end", "trace_id")
    assert loc(body(**{"\0": 1})) == ("body", "end", "[key]")
    assert loc(body(summary={"\0": 1})) == ("body", "end", "summary", "[key]")
    assert loc(body(summary={"usage": {"m": {"\0": 1}}})) == ("body", "end", "summary", "usage", "[key]", "[key]")
    assert loc(body(summary={"status_counts": {"\0": 1}})) == ("body", "end", "summary", "status_counts", "[key]")


def test_an_index_into_a_list_may_be_named_but_never_a_key() -> None:
    assert loc(body(output={"key": [1, {"deep": "\0"}]})) == ("body", "end", "output", "[key]", 1, "[key]")


@pytest.mark.parametrize("place", PLACES)
def test_an_integer_has_at_most_4300_digits(place: str) -> None:
    for sign in ("", "-"):
        parse(at(place, sign + "9" * 4300))
        assert refused(at(place, sign + "9" * 4301))[0].type == "integer_too_long"


# `output` and unknown keys of `end` stand on level 3 of the body (the body is 1, `end` 2), and so on.
LEVEL = {"output": 3, "display_name": 3, "summary": 4, "usage": 6}


def nested(levels: int) -> Iterator[str]:
    yield "[" * levels + "]" * levels
    yield '{"a":' * levels + "1" + "}" * levels
    yield '[{"a":' * (levels // 2) + "[]" * (levels % 2) + "1" * (levels % 2 == 0) + "}]" * (levels // 2)


@pytest.mark.parametrize("place", PLACES)
def test_a_body_is_nested_at_most_100_levels_deep(place: str) -> None:
    most = 100 - LEVEL[place] + 1
    for text in nested(most):
        parse(at(place, text))
        parse(at(place, text.replace("1", r'"\\u0000"')))  # looks like NUL, is none, and is looked at more closely
    for text in nested(most + 1):
        assert refused(at(place, text))[0].type == "nesting_too_deep"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("levels", [150, 195, 200, 201, 202, 1000, 100_000])
def test_no_depth_of_nesting_exhausts_the_stack(place: str, levels: int) -> None:
    for text in nested(levels):
        assert {detail.type for detail in refused(at(place, text))} == {"nesting_too_deep"}


def test_nesting_in_a_field_that_takes_no_object_is_refused_too() -> None:
    for field in ("id", "summary", "ended_at", "is_eval"):
        for text in (*nested(150), *nested(100_000)):
            refused(body_with(field, text))


# Times


def test_t21_naive_timestamps_are_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    naive = NOW.replace(tzinfo=None).isoformat()
    for zone in ("Asia/Kathmandu", "America/St_Johns", "UTC"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        try:
            end = parse(body(ended_at=naive, started_at=naive)).end
        finally:
            monkeypatch.delenv("TZ")
            time.tzset()
        assert (end.ended_at, end.started_at) == (NOW, NOW)
        assert end.ended_at.utcoffset() == timedelta(0)
    assert "TZ" not in os.environ


NOON = "2026-09-21T13:00:00"


@pytest.mark.parametrize(
    ("spelling", "microseconds"),
    [
        (f"{NOON}Z", 0),
        (f"{NOON}+00:00", 0),
        ("2026-09-21T18:45:00+05:45", 0),
        ("2026-09-21 13:00:00", 0),
        ("2026-09-21T13:00", 0),
        (f"{NOON}.123456Z", 123456),
        (f"{NOON}.1234569Z", 123456),
        (f"{NOON},5Z", 500000),
        (1789995600, 0),
        (1789995600.25, 250000),
        (1789995600123, 123000),
        ("1789995600", 0),
    ],
)
def test_ended_at_takes_what_pydantic_takes_and_keeps_microseconds(spelling: Any, microseconds: int) -> None:
    noon = datetime.fromisoformat(NOON).replace(tzinfo=UTC, microsecond=microseconds)
    assert parse(body(ended_at=spelling)).end.ended_at == noon


def test_a_date_is_its_midnight_in_utc() -> None:
    midnight = NOW.replace(hour=0)
    assert parse(body(ended_at=NOW.date().isoformat())).end.ended_at == midnight


@pytest.mark.parametrize(
    "spelling",
    [
        *("", "yesterday", "2026-13-01", "2026-09-21T25:00:00", "2026-09-21T13:00:00+99:00", "NaN"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"),
        *(True, [], {}, 1e300, float("nan"), 10**30),
    ],
)
def test_what_is_no_time_is_refused(spelling: Any) -> None:
    for field in ("ended_at", "started_at"):
        assert loc(body(**{field: spelling})) == ("body", "end", field)


def test_ended_at_lies_between_the_horizon_less_a_day_ago_and_24_hours_ahead() -> None:
    least, most = NOW - timedelta(days=HORIZON_DAYS - 1), NOW + timedelta(hours=24)
    microsecond = timedelta(microseconds=1)
    for ended_at in (least, most, NOW):
        assert parse(body(ended_at=ended_at.isoformat())).end.ended_at == ended_at
    for ended_at in (least - microsecond, most + microsecond):
        (detail,) = refused(body(ended_at=ended_at.isoformat()))
        assert detail.loc == ("body", "end", "ended_at")
        assert detail.msg == "ended_at must be at most 34 days ago and 24 hours ahead"


def test_the_time_in_a_uuid_v7_has_the_same_bounds() -> None:
    least, most = NOON_MS - (HORIZON_DAYS - 1) * DAY_MS, NOON_MS + DAY_MS
    for time_ms in (least, most):
        parse(body(id=uuid7(1, time_ms)))
        parse(body(id=uuid7(1, time_ms).upper()))
    for time_ms in (least - 1, most + 1):
        (detail,) = refused(body(id=uuid7(1, time_ms)))
        assert (detail.loc, detail.type) == (("body", "end", "id"), "outside_horizon")


def test_started_at_may_be_any_time_that_exists() -> None:
    for started_at in ("0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"):
        assert parse(body(started_at=started_at)).end.started_at == datetime.fromisoformat(started_at)


def test_the_worker_takes_all_that_the_door_takes_with_a_day_and_an_hour_to_spare() -> None:
    door, worker = door_window(NOW, HORIZON_DAYS), worker_window(NOON_MS, HORIZON_DAYS)
    assert door.oldest_us - worker.oldest_us == DAY_MS * 1000
    assert worker.newest_us - door.newest_us == HOUR_MS * 1000


def test_microseconds_since_the_epoch_are_exact() -> None:
    assert to_us(datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)) == 253_402_300_799_999_999
    assert to_us(datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)) == -1


@pytest.mark.parametrize(
    ("call_id", "time_ms"),
    [
        (uuid7(5), NOON_MS),
        (uuid7(5).upper(), NOON_MS),
        (uuid7(5, 1_577_836_800_000), 1_577_836_800_000),  # 2020-01-01
        (uuid7(5, 1_577_836_799_999), None),
        (uuid7(5, 4_102_444_799_999), 4_102_444_799_999),  # the last of 2099
        (uuid7(5, 4_102_444_800_000), None),
        (uuid7(5).replace("-", ""), None),
        (uuid7(5) + "\n", None),
        ("{" + uuid7(5) + "}", None),
        (uuid7(5)[:14] + "4" + uuid7(5)[15:], None),  # version 4
        (uuid7(5)[:19] + "c" + uuid7(5)[20:], None),  # another variant
        ("g" + uuid7(5)[1:], None),
        ("\u0661" + uuid7(5)[1:], None),  # a digit, but not of ASCII
        ("00f067aa0ba902b7", None),
        ("", None),
    ],
)
def test_a_timed_id_is_a_uuid_v7_of_this_century(call_id: str, time_ms: int | None) -> None:
    assert id_time_ms(call_id) == time_ms


# What a refusal says

MARKERS = ("MARKER-éx", 918273645546, 9182736455463728190, 91827.5, "91827.3645", True, None)
SHAPES: tuple[Any, ...] = ({"MARKER-key": 1}, ["MARKER-item"], {"MARKER-key\0": "MARKER\0"}, ["\0MARKER", float("nan")])
TEMPLATE = {"end": SDK_END | {"display_name": "d", "summary": {**SDK_END["summary"], "weave": {"a": [1]}}}}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


def replaced(path: tuple[Any, ...], value: Any, key: Any = None) -> bytes:
    """The template with another value, or another key, at this place."""
    root: Any = {"root": deepcopy(TEMPLATE)}
    parent, name = root, "root"
    for step in path:
        parent, name = parent[name], step
    if key is None:
        parent[name] = value
    else:
        parent[key] = parent.pop(name)
    return json.dumps(root["root"]).encode()


def marked_bodies() -> Iterator[bytes]:
    for path in places(TEMPLATE):
        yield from (replaced(path, value) for value in (*MARKERS, *SHAPES))
        if path and isinstance(path[-1], str):
            yield from (replaced(path, None, key) for key in ("MARKER-key", "MARKER\0key", "91827"))
    good = json.dumps(TEMPLATE).encode()
    yield from (good[:cut] + b"MARKER" + good[cut:] for cut in range(0, len(good), 7))
    yield from (good[:cut] + b'\xffMARKER"' + good[cut:] for cut in range(0, len(good), 7))
    yield json.dumps({f"MARKER-{number}": number for number in range(5000)}).encode()
    models = {f"MARKER-{number}": {"requests": "MARKER", "MARKER": "\0"} for number in range(200)}
    yield body(summary={"usage": models, "status_counts": {f"MARKER-{number}": "MARKER" for number in range(60)}})
    yield body(output=[["MARKER\0"]] * 1000, **{f"MARKER{number}": "\0" for number in range(100)})


def refusal(text: bytes) -> InvalidCall | None:
    try:
        parse(text)
    except InvalidCall as error:
        return error
    return None


def test_a_refusal_never_contains_anything_that_the_client_sent() -> None:
    refusals = [error for text in marked_bodies() if (error := refusal(text))]
    assert len(refusals) > 300
    for error in refusals:
        assert 1 <= len(error.details) <= 20
        assert all(detail.loc[0] == "body" for detail in error.details)
        said = repr(error.details) + str(error) + repr(error)
        assert "MARKER" not in said
        assert "91827" not in said
        assert error.__cause__ is error.__context__ is None  # pydantic's error holds the input


def test_every_message_names_the_field_and_the_limit() -> None:
    (detail,) = refused(usage(prompt_tokens=10**12 + 1))
    assert detail.msg == "prompt_tokens must be at most 1000000000000"
    (detail,) = refused(body(id="x" * 257))
    assert detail.msg == "id must have 1 to 256 bytes of UTF-8"
    (detail,) = refused(body_with("output", "[" * 150 + "]" * 150))
    assert detail.msg == "the body must not be nested deeper than 100 levels"


def test_several_errors_are_told_at_once() -> None:
    details = refused(b'{"end": {"id": 5, "summary": {"usage": {"m": {"requests": "x"}}}}}')
    assert [detail.loc[2:] for detail in details] == [
        ("project_id",),
        ("id",),
        ("ended_at",),
        ("summary", "usage", "[key]", "requests"),
    ]


def test_errors_without_number_cost_one_entry() -> None:
    text = b"{" + b",".join(b'"%d": 5' % number for number in range(1100)) + b"}"
    (detail,) = refused(text)
    assert (detail.loc, detail.type) == (("body",), "too_many_errors")


def test_a_call_is_frozen() -> None:
    call = parse(body())
    assert isinstance(call, CallEndReq)
    with pytest.raises(ValueError, match="frozen"):
        call.end.id = "other"
