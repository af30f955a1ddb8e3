"""Avro's binary encoding written by hand, so that tests can also write what no library would."""

from collections.abc import Sequence

from processor.calls import USAGE_FIELDS
from processor.codec.framing import frame
from tests.factories import NOON_US

NULL = b"\x00"


def long(number: int, *, spare_bytes: int = 0) -> bytes:
    """Zigzag, seven bits a byte. `spare_bytes`: more than needed, which is allowed up to ten in all."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    for _ in range(spare_bytes):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return long(len(data)) + data


def some(value: bytes) -> bytes:
    """The second branch of a union with null."""
    return long(1) + value


def block(*items: bytes) -> bytes:
    """An array, or a map whose items are key and value, in one block."""
    return (long(len(items)) + b"".join(items) if items else b"") + long(0)


def sized_block(*items: bytes, size: int | None = None) -> bytes:
    """The same with a negative count, followed by the block's size in bytes."""
    data = b"".join(items)
    return long(-len(items)) + long(len(data) if size is None else size) + data + long(0)


def usage_entry(model: str | bytes, *counts: int | None, extra: str | None = None) -> bytes:
    """`counts`: in the order of the fields; those that are not given are null."""
    all_counts = [*counts, *(None,) * (len(USAGE_FIELDS) - len(counts))]
    fields = [NULL if count is None else some(long(count)) for count in all_counts]
    return text(model) + b"".join(fields) + (NULL if extra is None else some(text(extra)))


def status_entry(status: str | bytes, count: int) -> bytes:
    return text(status) + long(count)


TAIL = NULL * 6  # trace_id, started_at, is_eval, wb_run_step_end, output, extra


def counted_part(
    *,
    project_id: str | bytes = "acme/chat",
    call_id: str | bytes = "call-1",
    ended_at_us: int = NOON_US,
    exception: str | bytes | None = None,
    usage: Sequence[bytes] | bytes = (),
    status_counts: Sequence[bytes] | bytes = (),
    extra: str | bytes | None = None,
) -> bytes:
    """A record up to the end of `summary`, without its frame. A map given as bytes is written as it is."""
    maps = (entries if isinstance(entries, bytes) else block(*entries) for entries in (usage, status_counts))
    return (
        text(project_id)
        + text(call_id)
        + long(ended_at_us)
        + (NULL if exception is None else some(text(exception)))
        + b"".join(maps)
        + (NULL if extra is None else some(text(extra)))
    )


def value(tail: bytes = TAIL, **fields: object) -> bytes:
    """A framed record; `fields` as in `counted_part`."""
    return frame(counted_part(**fields) + tail)  # type: ignore[arg-type]
