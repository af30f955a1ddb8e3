"""What `call-processor verify` found, for people and for programs."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import typer

from processor.audit.coverage import Coverage
from processor.audit.recount import Conflict, Recount
from processor.audit.verify import Compared, Difference
from processor.calls import USAGE_FIELDS
from processor.cli.printable import printable

_NUMBERS: Final = {"usage_totals": ("calls", *USAGE_FIELDS), "status_totals": ("count",), "outcome_totals": ("calls",)}
_EMPTY: Final = '""'


class TextReport:
    """Lines, as things are found."""

    def __init__(self) -> None:
        self.differ = False
        self._found = 0

    def difference(self, difference: Difference) -> None:
        table, project_id, hour, name, kind = difference.key
        self._differs(printable(f"{table} {project_id} {_hour(hour)} {name or _EMPTY} {kind}: {_told(difference)}"))

    def counter(self, sentence: str) -> None:
        self._differs(sentence)

    def conflict(self, conflict: Conflict) -> None:
        first, later = conflict.first, conflict.later
        typer.echo(
            f"conflict {printable(f'{conflict.project_id} {conflict.id}')}: first {first.partition}/{first.offset} "
            f"({_hex(first.content_hash)}), later {later.partition}/{later.offset} ({_hex(later.content_hash)})"
        )

    def summary(self, coverage: Coverage, recount: Recount, compared: Compared) -> None:
        for sentence in coverage.lost:
            typer.echo(f"not covered: {sentence}")
        typer.echo(f"covered: {_covered(coverage, recount)}")
        if coverage.baseline.taken_at is not None:
            typer.echo(
                f"counted again from the baseline of {coverage.baseline.taken_at.astimezone(UTC):%Y-%m-%d %H:%MZ} on"
            )
        if compared.unknown:
            typer.echo(
                f"not compared: {compared.unknown:,} rows of {recount.forgotten.total():,} calls whose keys may be gone"
            )
        typer.echo(
            f"{'WRONG' if self._found else 'OK'}  {recount.records:,} records read, "
            f"{compared.rows - compared.unknown:,} rows compared, {self._found:,} differences"
        )

    def end(self) -> None:
        """All is told."""

    def _differs(self, line: str) -> None:
        self.differ = True
        self._found += 1
        typer.echo(line)


class JsonReport:
    """One object, when all is done."""

    def __init__(self) -> None:
        self.differ = False
        self._differences: list[dict[str, Any]] = []
        self._counters: list[str] = []
        self._conflicts: list[dict[str, Any]] = []
        self._summary: dict[str, Any] = {}

    def difference(self, difference: Difference) -> None:
        self.differ = True
        table, project_id, hour, name, kind = difference.key
        names = _NUMBERS[table]
        self._differences.append({
            "table": table, "project_id": project_id, "hour": _hour(hour), "name": name, "call_kind": kind,
            "stored": difference.stored and dict(zip(names, difference.stored, strict=True)),
            "recounted": difference.recounted and dict(zip(names, difference.recounted, strict=True)),
        })  # fmt: skip

    def counter(self, sentence: str) -> None:
        self.differ = True
        self._counters.append(sentence)

    def conflict(self, conflict: Conflict) -> None:
        self._conflicts.append(asdict(conflict))

    def summary(self, coverage: Coverage, recount: Recount, compared: Compared) -> None:
        taken_at = coverage.baseline.taken_at
        self._summary = {
            "not_covered": list(coverage.lost),
            "baseline": taken_at and f"{taken_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "covered": {
                "from": _time(recount.first_time_ms),
                "to": _time(recount.last_time_ms),
                "offsets": {str(partition): [start, end] for partition, start, end in _offsets(coverage)},
            },
            "records": recount.records,
            "rows": compared.rows,
            "rows_unknown": compared.unknown,
        }

    def end(self) -> None:
        found = {"differences": self._differences, "counters": self._counters, "conflicts": self._conflicts}
        typer.echo(json.dumps({**self._summary, **found}, ensure_ascii=False))


def _covered(coverage: Coverage, recount: Recount) -> str:
    """When the records came that were counted again, and where they stand (the end not included)."""
    places = ", ".join(f"{partition}: {start} to {end}" for partition, start, end in _offsets(coverage))
    if recount.first_time_ms is None:
        return "no record of the log, only what was kept of it" + (f"; offsets by partition {places}" if places else "")
    return (
        f"records that came from {_time(recount.first_time_ms)} to {_time(recount.last_time_ms)}; "
        f"offsets by partition {places}"
    )


def _offsets(coverage: Coverage) -> Iterator[tuple[int, int, int]]:
    """Partition, first offset, and the one after the last."""
    for partition, end in sorted(coverage.ends.items()):
        if end > coverage.starts[partition]:
            yield partition, coverage.starts[partition], end


def _time(time_ms: int | None) -> str | None:
    return None if time_ms is None else f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _told(difference: Difference) -> str:
    stored, recounted = difference.stored, difference.recounted
    names = _NUMBERS[difference.key[0]]
    if stored is None or recounted is None:
        numbers = zip(names, stored or recounted or (), strict=True)
        told = ", ".join(f"{name} {number:,}" for name, number in numbers if number)
        return f"the row is {'missing' if stored is None else 'one too many'} ({told or 'all 0'})"
    return ", ".join(
        f"{name} stored {one:,}, recounted {other:,}"
        for name, one, other in zip(names, stored, recounted, strict=True)
        if one != other
    )


def _hour(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour * 3600, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _hex(content_hash: int) -> str:
    return f"{content_hash & (1 << 64) - 1:016x}"
