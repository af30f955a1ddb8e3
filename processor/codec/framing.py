"""Avro's single-object encoding: two marker bytes, the fingerprint of the writer's schema, the record.

https://avro.apache.org/docs/1.12.0/specification/#single-object-encoding
"""

from typing import Final

from processor.errors import DeadLetterReason, Rejected

MARKER: Final = b"\xc3\x01"
FINGERPRINT_V1: Final = bytes.fromhex("2f6e74afa52336ff")  # CRC-64-AVRO of schemas/call_end.v1.avsc, little endian
HEADER_V1: Final = MARKER + FINGERPRINT_V1
CONFLUENT_MARKER: Final = b"\x00"
CONFLUENT_HEADER_BYTES: Final = 5  # the marker and the id of a schema in a registry


def frame(body: bytes) -> bytes:
    return HEADER_V1 + body


def unframe(value: bytes) -> bytes:
    """The record within a value of the topic; Rejected if it is framed otherwise, or by a schema not known here."""
    if value.startswith(HEADER_V1):
        return value[len(HEADER_V1) :]
    if value.startswith(MARKER) and len(value) >= len(HEADER_V1):
        raise Rejected(DeadLetterReason.UNKNOWN_SCHEMA, "the Avro fingerprint is not that of a known schema")
    if value.startswith(CONFLUENT_MARKER) and len(value) >= CONFLUENT_HEADER_BYTES:
        raise Rejected(DeadLetterReason.UNKNOWN_SCHEMA, "the schema's id needs a schema registry, and there is none")
    raise Rejected(DeadLetterReason.UNDECODABLE, "the value has no Avro single-object header")
