"""When a record of the topic can never be counted.

These rules are law for every reader of records, in this order; the first that applies is the verdict:

1. unknown_schema, undecodable: the frame (framing.py), then the bytes up to the end of `summary` (wire.py says what is
   well-formed); what follows is judged by nobody;
2. invalid: project_id, id, the models, their counts, the statuses, their counts;
3. outside_horizon: `ended_at`, then the time in a timed id, against the broker's timestamp of the record.

A reader of whole columns must give the same verdict on every byte string as `rows.decode_counted`, which asks here.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from processor.calls import USAGE_FIELDS, id_time_ms
from processor.counting.rows import CountedCall
from processor.limits import (
    ID_BYTES,
    MAX_COUNT,
    MAX_MODELS,
    MAX_STATUSES,
    MODEL_BYTES,
    STATUS_BYTES,
    WORKER_AHEAD_HOURS,
    Window,
    project_id_breach,
    text_breach,
)


def invalid(call: CountedCall) -> Iterator[str]:
    """Every broken rule, in order: a sentence with field and limit, never a client's value."""
    if breach := project_id_breach(call.project_id):
        yield breach.msg
    if breach := text_breach("id", call.id, ID_BYTES):
        yield breach.msg
    yield from _entries("usage", call.usage, MAX_MODELS, MODEL_BYTES)
    for _, counts in call.usage:
        yield from _counts(zip(USAGE_FIELDS, counts, strict=True))
    yield from _entries("status_counts", call.status_counts, MAX_STATUSES, STATUS_BYTES)
    yield from _counts(("a status count", count) for _, count in call.status_counts)


def _entries(field: str, pairs: Sequence[tuple[str, Any]], most: int, key_bytes: tuple[int, int]) -> Iterator[str]:
    if len(pairs) > most:
        yield f"{field} must have at most {most} entries"
    if len({key for key, _ in pairs}) < len(pairs):
        yield f"{field} must have no key twice"
    for key, _ in pairs:
        if breach := text_breach(f"a key of {field}", key, key_bytes):
            yield breach.msg


def _counts(counts: Iterable[tuple[str, int]]) -> Iterator[str]:
    for field, count in counts:
        if not -MAX_COUNT <= count <= MAX_COUNT:
            yield f"{field} must be within +-{MAX_COUNT}"


def outside_horizon(call: CountedCall, window: Window, horizon_days: int) -> Iterator[str]:
    """`window`: what `horizon_days` mean for this record."""
    bounds = f"must be at most {horizon_days} days before the record and {WORKER_AHEAD_HOURS} hours after it"
    if not window.oldest_us <= call.ended_at_us <= window.newest_us:
        yield f"ended_at {bounds}"
    time_ms = id_time_ms(call.id)
    if time_ms is not None and not window.oldest_us <= time_ms * 1000 <= window.newest_us:
        yield f"the time in id (a UUIDv7) {bounds}"
