"""What a run is told in: lines of text, made of numbers that are all there already."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from rich.cells import cell_len

from processor.calls import USAGE_FIELDS
from processor.sample.oracle import Expected, Rows
from processor.sample.sender import Answer
from processor.sample.stored import Counters

SHOWN = 10  # rows of the table, and differences
_TOTAL_TOKENS = 1 + USAGE_FIELDS.index("total_tokens")  # in a row of usage_totals, whose first number is the calls


def servers_line(servers: Sequence[tuple[str, str, float]], ingest_url: str, workers: int) -> str:
    """`servers`: name and version, address, seconds to start."""
    started = [f"{name} {address} ({seconds:.1f} s)" for name, address, seconds in servers]
    return " | ".join([*started, f"ingest {ingest_url}", f"workers {workers}"])


def sent_line(answers: Sequence[Answer]) -> str:
    statuses = Counter(answer.status for answer in answers)
    accepted = statuses.pop(200, 0)
    most_first = sorted(statuses.items(), key=lambda item: (-item[1], item[0] or 0))
    by_status = ", ".join(f"{status or 'no answer'}: {count:,}" for status, count in most_first)
    refused = f"refused {statuses.total():,}" + (f" ({by_status})" if by_status else "")
    return f"sent {len(answers):,} | accepted {accepted:,} | {refused}"


def table(usage: Rows) -> Iterator[str]:
    """By project and model, most tokens first: each call's own where clients say so, and all that was posted."""
    calls: Counter[tuple[str, str]] = Counter()
    leaf: Counter[tuple[str, str]] = Counter()
    posted: Counter[tuple[str, str]] = Counter()
    for (project_id, _, model, kind), numbers in usage.items():
        calls[project_id, model] += numbers[0]
        posted[project_id, model] += numbers[_TOTAL_TOKENS]
        leaf[project_id, model] += numbers[_TOTAL_TOKENS] if kind == "leaf" else 0
    top = sorted(posted, key=lambda key: (-posted[key], key))
    rows = [(key[0], key[1] or '""', f"{calls[key]:,}", f"{leaf[key]:,}", f"{posted[key]:,}") for key in top[:SHOWN]]
    repeated = next((key for key in top[:SHOWN] if posted[key] > leaf[key] > 0), None)
    notes = ["", *("<- parents repeat their children" if key == repeated else "" for key in top[:SHOWN])]
    yield from _aligned([("PROJECT", "MODEL", "CALLS", "TOKENS leaf", "TOKENS as posted"), *rows], notes)
    if len(top) > SHOWN:
        yield f"... and {len(top) - SHOWN} more"


def counters_line(counters: Counters) -> str:
    repeats = f"duplicates {counters.duplicates:,} ({counters.conflicts:,} of them conflicts)"
    return f"{repeats} | dead letters {counters.dead_lettered:,} (foreign records)"


def verdict(found: Sequence[str], expected: Expected) -> Iterator[str]:
    if not found:
        rows = f"{sum(map(len, expected.tables.values())):,}"
        yield f"OK  stored totals equal what was sent: {expected.calls:,} calls, {rows} of {rows} rows"
        return
    yield f"WRONG  {len(found):,} differences between what is stored and what was sent:"
    yield from (f"  {line}" for line in islice(found, SHOWN))


def _aligned(rows: Sequence[Sequence[str]], notes: Sequence[str]) -> Iterator[str]:
    """Two columns to the left, the others to the right; widths as a terminal shows them."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row, note in zip(rows, notes, strict=True):
        padding = [" " * (width - cell_len(text)) for width, text in zip(widths, row, strict=True)]
        cells = [text + pad if i < 2 else pad + text for i, (text, pad) in enumerate(zip(row, padding, strict=True))]
        yield "   ".join([*cells, note]).rstrip()
