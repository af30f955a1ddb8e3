"""The totals compared with the log, while workers go on.

One snapshot of totals and offsets is put aside; the log is counted again from a baseline up to these offsets and no
further; baseline and recount together must be the snapshot, row by row.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from processor.audit.coverage import Coverage
from processor.audit.recount import Recount
from processor.errors import ExitCode, Stop
from processor.ledger import Counters, Key, Numbers, Place, Row, Snapshot


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not as it must be. None: there is no such row."""

    key: Key
    stored: tuple[int, ...] | None
    recounted: tuple[int, ...] | None


@dataclass(slots=True)
class Compared:
    rows: int = 0
    unknown: int = 0  # rows that a call touches of which nobody knows whether it was counted


def differences(stored: Iterable[Row], recounted: Iterable[Row], compared: Compared) -> Iterator[Difference]:
    """Both sorted by key; `compared` is filled on the way."""
    have, want = iter(stored), iter(recounted)
    left, right = next(have, None), next(want, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[0] < right[0]):
            key, one, other = left[0], left[1], _ABSENT  # type: ignore[index]
            left = next(have, None)
        elif left is None or right[0] < left[0]:
            key, one, other = right[0], _ABSENT, right[1]
            right = next(want, None)
        else:
            key, one, other = left[0], left[1], right[1]
            left, right = next(have, None), next(want, None)
        compared.rows += 1
        if other is None:
            compared.unknown += 1
        elif one != other:
            yield Difference(key, one or None, other or None)


_ABSENT: Numbers = ()


def refuse_if_nothing_was_compared(compared: Compared, project: str | None) -> None:
    """Nobody may take silence for a proof. `Stop`: USAGE if nobody has heard of the project, else DEPENDENCY."""
    if compared.unknown < compared.rows:
        return
    if compared.unknown:
        why = f"each of the {compared.unknown:,} rows holds calls whose keys may be gone"
        raise Stop(ExitCode.DEPENDENCY, f"nothing could be compared: {why}")
    if project is not None:
        raise Stop(
            ExitCode.USAGE,
            f"nothing was compared: neither the totals nor the log have a call of project {project} "
            "(entity/project, upper and lower case differ; `call-processor usage --by total` names the projects)",
        )
    raise Stop(ExitCode.DEPENDENCY, "nothing was compared: neither the totals nor the log have a call yet")


def counter_differences(
    snapshot: Snapshot, coverage: Coverage, log: tuple[str, str], recount: Recount
) -> Iterator[str]:
    """The checkpoints' own counters, of partitions whose checkpoint nobody moved meanwhile."""
    for place, decided in snapshot.decided.items():
        if place[:2] == log and _comparable(snapshot, coverage, place):
            then, partition = coverage.baseline.decided.get(place), place[2]
            stored = _since(decided.counters, then.counters if then else None)
            recounted = {
                "counted": recount.counted[partition],
                "duplicates and dead letters": recount.uncounted[partition],
                "skipped": recount.skipped[partition],
                "gap offsets": recount.gap_offsets[partition],
            }
            unknown = {"counted", "duplicates and dead letters"} if recount.forgotten[partition] else set()
            for what in recounted.keys() - unknown:
                if stored[what] != recounted[what]:
                    yield f"partition {partition}, {what}: stored {stored[what]:,}, recounted {recounted[what]:,}"


def _since(now: Counters, then: Counters | None) -> dict[str, int]:
    then = then or Counters(now.first_offset, now.first_offset)
    return {
        "counted": now.counted - then.counted,
        "duplicates and dead letters": now.uncounted - then.uncounted,
        "skipped": now.skipped - then.skipped,
        "gap offsets": now.gap_offsets - then.gap_offsets,
    }


def _comparable(snapshot: Snapshot, coverage: Coverage, place: Place) -> bool:
    now, then = snapshot.decided[place], coverage.baseline.decided.get(place)
    if then is None:
        return now.counters.first_offset == snapshot.begins[place] and now.counters.next_offset == now.to
    return (
        now.counters.first_offset == then.counters.first_offset
        and now.counters.next_offset == now.to
        and then.counters.next_offset == then.to
    )
