"""Laws of our writer of Avro: the bytes of fastavro for every value of the schema, an error for any other."""

import io
from typing import Any

import fastavro
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from processor.codec.schema import SCHEMA, without_logical_types
from processor.codec.wire import compile_reader
from processor.codec.writer import compile_writer
from processor.limits import INT64_MAX, INT64_MIN
from tests.property.cases import LAW

PARSED = fastavro.parse_schema(without_logical_types(SCHEMA))
write = compile_writer(SCHEMA)
write_long = compile_writer("long")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.integers(0, 9000).map("é".__mul__)
borders = st.builds(
    lambda bits, sign, by: max(INT64_MIN, min(INT64_MAX, sign * 2**bits + by)),
    st.integers(0, 63), st.sampled_from((1, -1)), st.integers(-2, 2),
)  # fmt: skip
longs = st.integers(INT64_MIN, INT64_MAX) | borders


def values(schema: Any) -> st.SearchStrategy[Any]:
    """Whatever the schema allows."""
    if isinstance(schema, list):
        return st.none() | values(schema[1])
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "record":
        return st.fixed_dictionaries({field["name"]: values(field["type"]) for field in schema["fields"]})
    if kind == "map":
        return st.dictionaries(texts, values(schema["values"]), max_size=4)
    return {"string": texts, "long": longs, "boolean": st.booleans()}[kind]


@LAW
@given(values(SCHEMA))
def test_every_record_is_written_as_fastavro_writes_it(record: dict[str, Any]) -> None:
    theirs = io.BytesIO()
    fastavro.schemaless_writer(theirs, PARSED, record)
    assert write(record) == theirs.getvalue()


@LAW
@given(longs)
@example(INT64_MIN)
@example(INT64_MAX)
def test_every_long_is_written_as_fastavro_writes_it_and_read_back_by_our_reader(value: int) -> None:
    theirs = io.BytesIO()
    fastavro.schemaless_writer(theirs, "long", value)
    ours = write_long(value)
    assert ours == theirs.getvalue()
    assert compile_reader("long")(ours, 0) == (value, len(ours))


@pytest.mark.parametrize("value", [INT64_MAX + 1, INT64_MIN - 1, 2**70])
def test_an_integer_beyond_64_bits_is_an_error_and_does_not_wrap(value: int) -> None:
    with pytest.raises(OverflowError):
        write_long(value)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ("string", None), ("string", "\ud800"), ("long", None), ("long", "5"), (["null", "long"], "5"),
        ({"type": "long", "logicalType": "timestamp-micros"}, 1.5),
        ({"type": "record", "fields": [{"name": "a", "type": ["null", "long"]}]}, {}),
        ({"type": "map", "values": "long"}, {5: 5}),
    ],
)  # fmt: skip
def test_what_the_schema_does_not_have_is_an_error(schema: Any, value: Any) -> None:
    with pytest.raises((TypeError, AttributeError, KeyError, UnicodeEncodeError)):
        compile_writer(schema)(value)
