"""The golden records, which readers in any language may test themselves with: nobody may change what is in them."""

import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import avro.io
import avro.schema
import pytest

from processor.calls import USAGE_FIELDS
from processor.codec.framing import HEADER_V1
from processor.codec.rows import decode, encode
from processor.counting.rows import CallRows
from processor.worker.decode import decode_columns, decode_rows
from tests import golden
from tests.bodies import HORIZON_DAYS
from tests.factories import FakeRecord

LINES = golden.lines()
every_line = pytest.mark.parametrize("line", LINES, ids=[line["name"] for line in LINES])


def exactly(value: Any) -> str:
    """JSON that tells 1 from 1.0 and true, and 0.0 from -0.0, and does not mind the order of keys."""
    return json.dumps(value, sort_keys=True)


def value_of(line: dict[str, Any]) -> bytes:
    return bytes.fromhex(line["value"])


def test_every_case_has_its_line_and_every_line_its_case() -> None:
    assert [line["name"] for line in LINES] == list(golden.CASES), "python -m tests.golden adds what is missing"


def test_a_line_is_plain_ascii_with_four_keys() -> None:
    text = golden.FILE.read_bytes()
    assert text.isascii()
    assert text.endswith(b"}\n")
    assert {tuple(line) for line in LINES} == {("name", "key", "value", "call")}


@every_line
def test_our_encoder_writes_these_very_bytes(line: dict[str, Any]) -> None:
    call = golden.posted(line["name"])
    assert encode(call).hex() == line["value"]
    assert call.end.project_id == line["key"]
    assert exactly(golden.as_json(call)) == exactly(line["call"])


@every_line
def test_our_decoder_reads_this_very_call(line: dict[str, Any]) -> None:
    call = decode(value_of(line))
    assert exactly(golden.as_json(call)) == exactly(line["call"])
    assert encode(call).hex() == line["value"]


def test_both_paths_of_the_worker_count_what_the_lines_say() -> None:
    records = [FakeRecord(at, payload=value_of(line), time_ms=golden.NEW_YEAR_MS) for at, line in enumerate(LINES)]
    rows, columns = decode_rows(records, HORIZON_DAYS), decode_columns(records, HORIZON_DAYS)
    assert not rows.rejects + columns.rejects
    assert isinstance(rows.calls, CallRows)
    for call, line in zip(rows.calls.calls, LINES, strict=True):
        end = line["call"]["end"]
        assert (call.project_id, call.id, call.failed) == (end["project_id"], end["id"], "exception" in end)
        assert dict(call.usage) == {
            model: tuple(counts.get(field, 0) for field in USAGE_FIELDS)
            for model, counts in end["summary"]["usage"].items()
        }
        assert dict(call.status_counts) == end["summary"]["status_counts"]
    assert columns.calls.identities == rows.calls.identities
    assert list(columns.calls.content_hashes) == rows.calls.content_hashes
    assert columns.calls.fold(set()) == rows.calls.fold(set())


# Apache's own reader, which shares no line with ours nor with fastavro

APACHE_READER = avro.io.DatumReader(
    avro.schema.parse(golden.FILE.with_name("call_end.v1.avsc").read_text(encoding="utf-8"))
)


@every_line
def test_the_reader_of_apache_avro_finds_the_same_call(line: dict[str, Any]) -> None:
    value = value_of(line)
    assert value.startswith(HEADER_V1)
    body = io.BytesIO(value[len(HEADER_V1) :])
    record: Any = APACHE_READER.read(avro.io.BinaryDecoder(body))
    assert body.read() == b""
    assert exactly({"end": as_posted(record["end"])}) == exactly(line["call"])


def as_posted(end: dict[str, Any]) -> dict[str, Any]:
    """A record as a library reads it, in the form of the golden call: what docs/wire-format.md says, spelled out."""
    summary = end["summary"]
    usage = {model: with_unknown_keys(counts) for model, counts in summary["usage"].items()}
    found = with_unknown_keys(end) | {"summary": with_unknown_keys(summary) | {"usage": usage}}
    if end["output"] is not None:
        found["output"] = json.loads(end["output"])
    return found


def with_unknown_keys(record: dict[str, Any]) -> dict[str, Any]:
    known = {name: as_text(value) for name, value in record.items() if name != "extra" and value is not None}
    unknown: dict[str, Any] = json.loads(record["extra"] or "{}")
    return known | unknown


def as_text(value: Any) -> Any:
    """Times as pydantic writes them: without a fraction if it is 0."""
    if not isinstance(value, datetime):
        return value
    assert value.utcoffset() == timedelta(0)
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def test_times_in_the_lines_have_microseconds_or_whole_seconds() -> None:
    times = [
        line["call"]["end"][name]
        for line in LINES
        for name in ("ended_at", "started_at")
        if name in line["call"]["end"]
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", time) for time in times)
