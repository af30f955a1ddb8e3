"""The frame of a value: Avro's single-object encoding, and what other frames are taken for."""

import json
from importlib.resources import files
from typing import Any

import avro.schema
import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form

from processor.codec.framing import FINGERPRINT_V1, HEADER_V1, MARKER, frame, unframe
from processor.codec.schema import SCHEMA, without_logical_types
from processor.errors import DeadLetterReason, Rejected

# Changing it means that workers in the field dead-letter every new record: a change of the schema needs a new file, a
# new fingerprint beside this one, and a worker that knows both before the first door writes it.
FROZEN = "2f6e74afa52336ff"


def crc_64_avro(data: bytes) -> bytes:
    """The fingerprint as the specification describes it, little endian."""
    empty = 0xC15D213AA4D7A795
    value = empty
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (empty if value & 1 else 0)
    return value.to_bytes(8, "little")


def reason(value: bytes) -> DeadLetterReason:
    with pytest.raises(Rejected) as caught:
        unframe(value)
    return caught.value.reason


def apaches_fingerprint(schema: Any) -> bytes:
    return avro.schema.parse(json.dumps(schema)).fingerprint("CRC-64-AVRO")


def test_the_fingerprint_of_the_schema_is_frozen() -> None:
    """Java's SchemaNormalization 1.12.0 says the same, and its BinaryMessageDecoder reads our values."""
    canonical = to_parsing_canonical_form(SCHEMA)
    assert FINGERPRINT_V1.hex() == FROZEN
    assert fingerprint(canonical, "CRC-64-AVRO") == FROZEN
    assert crc_64_avro(canonical.encode()).hex() == FROZEN
    assert apaches_fingerprint(without_logical_types(SCHEMA)).hex() == FROZEN


def test_apaches_python_library_computes_another_fingerprint_because_of_the_logical_types() -> None:
    """By the specification, and in Java, the canonical form of {"type": "long", "logicalType": ...} is "long"; this
    library leaves {"type": "long"}. So docs/wire-format.md tells readers to compare with our constant. Where this test
    fails, the library does it right: take the sentence out."""
    assert apaches_fingerprint(SCHEMA).hex() == "d06bc9d259b4fc04"


# From share/test/data/schema-tests.txt of https://github.com/apache/avro: a schema, its canonical form, and the
# fingerprint of that. (A default that is no boolean there is one here: the libraries look at it.)
VECTORS = [
    ('"null"', '"null"', 7195948357588979594),
    ('{"type":"boolean"}', '"boolean"', -6970731678124411036),
    ('"int"', '"int"', 8247732601305521295),
    ('"long"', '"long"', -3434872931120570953),
    ('{"type":"string"}', '"string"', -8142146995180207161),
    ('[ "int" , {"type":"boolean"} ]', '["int","boolean"]', 5392556393470105090),
    (
        '{"fields":[], "type":"record", "name":"foo", "namespace":"x.y"}',
        '{"name":"x.y.foo","type":"record","fields":[]}',
        5916914534497305771,
    ),
    (
        '{ "fields":[{"type":"boolean", "aliases":[], "name":"f1", "default":true},'
        '{"order":"descending","name":"f2","doc":"Hello","type":"int"}], "type":"record", "name":"foo" }',
        '{"name":"foo","type":"record","fields":[{"name":"f1","type":"boolean"},{"name":"f2","type":"int"}]}',
        -4860222112080293046,
    ),
    ('{ "values":"string", "type":"map"}', '{"type":"map","values":"string"}', -8732877298790414990),
    (
        '{"name":"PigValue","type":"record","fields":[{"name":"value", "type":["null", "int", "long", "PigValue"]}]}',
        '{"name":"PigValue","type":"record","fields":[{"name":"value","type":["null","int","long","PigValue"]}]}',
        -1759257747318642341,
    ),
]


@pytest.mark.parametrize(("schema", "canonical", "expected"), VECTORS)
def test_what_the_fingerprint_is_computed_with_agrees_with_the_vectors_of_avro(
    schema: str, canonical: str, expected: int
) -> None:
    little_endian = expected.to_bytes(8, "little", signed=True)
    assert to_parsing_canonical_form(json.loads(schema)) == canonical
    assert fingerprint(canonical, "CRC-64-AVRO") == little_endian.hex()
    assert crc_64_avro(canonical.encode()) == little_endian
    assert apaches_fingerprint(json.loads(schema)) == little_endian


def test_the_header_of_avros_own_example_is_made_like_ours() -> None:
    """The message of share/test/data/messageV1 there, as Java's BinaryMessageEncoder 1.12.0 writes it."""
    schema = {
        "type": "record",
        "namespace": "org.apache.avro",
        "name": "TestMessage",
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "name", "type": "string"},
            {"name": "tags", "type": {"type": "array", "items": "string"}},
        ],
    }
    message = bytes.fromhex("c301a92de1f8a242f53d540842696c6c0412646f675f6c6f766572126361745f686174657200")
    assert message[:10] == MARKER + crc_64_avro(to_parsing_canonical_form(schema).encode())
    assert (len(HEADER_V1), HEADER_V1[:2]) == (10, message[:2])


def test_the_packaged_schema_is_the_contract() -> None:
    packaged = files("processor").joinpath("schemas/call_end.v1.avsc").read_text(encoding="utf-8")
    assert json.loads(packaged) == SCHEMA


@pytest.mark.parametrize("body", [b"", b"x", b"\xc3\x01" * 20])
def test_a_frame_comes_off_as_it_went_on(body: bytes) -> None:
    assert frame(body) == bytes.fromhex("c301" + FROZEN) + body
    assert unframe(frame(body)) == body


@pytest.mark.parametrize("position", range(2, 10))
def test_another_fingerprint_is_an_unknown_schema(position: int) -> None:
    header = bytearray(HEADER_V1)
    header[position] ^= 1
    assert reason(bytes(header) + b"body") == DeadLetterReason.UNKNOWN_SCHEMA


def test_a_registrys_frame_is_an_unknown_schema_where_no_registry_is() -> None:
    assert reason(b"\x00\x00\x00\x00\x2abody") == DeadLetterReason.UNKNOWN_SCHEMA
    assert reason(b"\x00\x00\x00\x00\x2a") == DeadLetterReason.UNKNOWN_SCHEMA


@pytest.mark.parametrize("length", range(len(HEADER_V1)))
def test_a_cut_header_is_undecodable(length: int) -> None:
    assert reason(HEADER_V1[:length]) == DeadLetterReason.UNDECODABLE


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x00" * 4, b"{}", b"\xc3\x02" + b"x" * 20, b"\x01" * 20, b"Obj\x01"])
def test_anything_else_is_undecodable(value: bytes) -> None:
    assert reason(value) == DeadLetterReason.UNDECODABLE
