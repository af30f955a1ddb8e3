"""Records that others put on the topic: none of them may be counted, none may stop the worker or get lost."""

from collections.abc import Sequence
from dataclasses import dataclass

AVRO_SINGLE_OBJECT = b"\xc3\x01"


@dataclass(frozen=True, slots=True)
class Foreign:
    value: bytes | None
    reason: str | None  # of its dead letter; None: skipped


def foreign_records(framed: bytes) -> Sequence[Foreign]:
    """Records of other makers. `framed`: the value of any valid record, to cut and to bend."""
    return (
        Foreign(b'{"end": {"project_id": "a/b"}}', "undecodable"),
        Foreign(AVRO_SINGLE_OBJECT + b"\x01\x02\x03\x04\x05\x06\x07\x08" + framed[10:], "unknown_schema"),
        Foreign(b"\x00\x00\x00\x00\x2a" + framed[10:], "unknown_schema"),  # Confluent's framing, no registry
        Foreign(b"", "undecodable"),
        Foreign(framed[:14], "undecodable"),
        Foreign(b"\xff" * 64, "undecodable"),
        Foreign(None, None),  # a tombstone
    )
