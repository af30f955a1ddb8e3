"""Small makers of what the tests talk about; every argument has a harmless default."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from processor.batch import Headers
from processor.calls import USAGE_FIELDS
from processor.counting.rows import CallRows, CountedCall
from processor.sinks.base import Batch, Breaker, Span

NOON_US = 1_790_000_000_000_000 // 3_600_000_000 * 3_600_000_000  # a full hour in September 2026
NOON_MS = NOON_US // 1000
LEAF = (("success", 1), ("error", 0))


def counted(
    call_id: str = "call-1",
    *,
    project_id: str = "acme/chat",
    ended_at_us: int = NOON_US,
    failed: bool = False,
    usage: Mapping[str, int] | None = None,
    status_counts: Iterable[tuple[str, int]] = LEAF,
) -> CountedCall:
    """`usage`: model -> prompt_tokens; total_tokens are the same."""
    models = {"gpt-4o": 10} if usage is None else usage
    return CountedCall(
        project_id=project_id,
        id=call_id,
        ended_at_us=ended_at_us,
        failed=failed,
        usage=tuple((model, counts(prompt_tokens=tokens, total_tokens=tokens)) for model, tokens in models.items()),
        status_counts=tuple(status_counts),
    )


def counts(**given: int) -> tuple[int, ...]:
    """In the order of USAGE_FIELDS; those that are not given are 0."""
    return tuple(given.get(field, 0) for field in USAGE_FIELDS)


def uuid7(number: int, time_ms: int = NOON_MS) -> str:
    """The text of a UUIDv7 whose random part is `number`."""
    text = f"{time_ms:012x}7{0:03x}8{number:015x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def rows(*calls: CountedCall, partition: int = 0, start: int = 0) -> CallRows:
    found = CallRows()
    for position, call in enumerate(calls):
        found.append(call, partition, start + position, NOON_MS)
    return found


def batch(*calls: CountedCall, partition: int = 0, epoch: int = 1, start: int = 0) -> Batch:
    """Calls that follow each other in one partition, without dead letters, gaps or tombstones."""
    return Batch(
        (span(len(calls), partition=partition, epoch=epoch, start=start),),
        rows(*calls, partition=partition, start=start),
    )


def span(
    records: int,
    *,
    partition: int = 0,
    epoch: int = 1,
    start: int = 0,
    dead_lettered: int = 0,
    time_ms: int = NOON_MS,
) -> Span:
    return Span(
        partition,
        epoch,
        start,
        start + records,
        records,
        {"invalid": dead_lettered} if dead_lettered else {},
        0,
        0,
        time_ms,
        Breaker(),
    )


def together(*batches: Batch) -> Batch:
    """Several partitions in one batch."""
    calls = CallRows()
    for one in batches:
        for position, call in enumerate(one.calls.calls):  # type: ignore[attr-defined]
            calls.append(call, one.calls.partitions[position], one.calls.offsets[position], NOON_MS)
    return Batch(tuple(span for one in batches for span in one.spans), calls)


@dataclass(slots=True)
class FakeRecord:
    """A record as the Kafka client hands it over."""

    at: int
    of: int = 0
    payload: bytes | None = b""
    name: bytes | None = b"acme/chat"
    time_ms: int = NOON_MS
    head: Headers = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.payload or b"")

    def partition(self) -> int:
        return self.of

    def offset(self) -> int:
        return self.at

    def timestamp(self) -> tuple[int, int]:
        return 2, self.time_ms

    def key(self) -> bytes | None:
        return self.name

    def value(self) -> bytes | None:
        return self.payload

    def headers(self) -> Headers:
        return self.head
