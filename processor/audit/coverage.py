"""From where the log can be counted again: the oldest moment whose totals are known and whose log is still there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from processor.errors import ExitCode, Stop
from processor.ledger import Baseline, Place, Snapshot


@dataclass(frozen=True, slots=True)
class Coverage:
    """`starts`, `ends`: by partition of this log. `lost`: what is not counted again, in sentences."""

    baseline: Baseline
    starts: Mapping[int, int]
    ends: Mapping[int, int]
    lost: tuple[str, ...]


def cover(snapshot: Snapshot, log: tuple[str, str], bounds: Mapping[int, tuple[int, int]]) -> Coverage:
    """`log`: cluster and topic id; `bounds`: what of it is there now. `Stop` if it cannot be counted again at all,
    or if nothing of it was counted."""
    for (*of, partition), decided in snapshot.decided.items():
        if decided.counters.next_offset < decided.to:
            raise Stop(
                ExitCode.DEPENDENCY,
                f"partition {partition} is read again up to offset {decided.to} (`call-processor checkpoints set`), "
                f"and the workers have come to {decided.counters.next_offset}: verify when they are there",
            )
        if tuple(of) == log and decided.to > bounds[partition][1]:
            raise Stop(
                ExitCode.PROTECT_NUMBERS,
                f"partition {partition}: the log ends at offset {bounds[partition][1]}, but counting had reached "
                f"{decided.to}: the log lost records, or is another one",
            )
    if not any(decided.to > snapshot.begins[place] for place, decided in snapshot.decided.items() if place[:2] == log):
        raise Stop(ExitCode.DEPENDENCY, f"nothing can be checked: {_nothing_of_it(snapshot, log)}")
    lost: list[str] = []
    if snapshot.adopted_at is not None:
        lost.append("the totals hold calls of a log that was given up")
    for baseline in (*([] if snapshot.adopted_at is not None else [Baseline(None, None, {})]), *snapshot.baselines):
        gone = list(missing(snapshot, baseline, log, bounds))
        if not gone:
            return Coverage(baseline, _starts(snapshot, baseline, log), _ends(snapshot, log), tuple(lost))
        lost = lost or gone
    raise Stop(
        ExitCode.DEPENDENCY,
        "nothing can be checked: "
        + "; ".join(lost)
        + "; and there is no baseline that the log still reaches back to (`call-processor maintain` keeps one a day)",
    )


def _nothing_of_it(snapshot: Snapshot, log: tuple[str, str]) -> str:
    """Why no record of this log was decided."""
    others = sorted({place[1] for place in snapshot.decided if place[:2] != log})
    if others:
        return (
            f"no record of the configured topic (id {log[1]}) is counted in these totals, which come from topic id "
            f"{', '.join(others)}: do the settings name the right topic and database?"
        )
    return "no worker has counted a record of the configured topic yet"


def missing(
    snapshot: Snapshot, baseline: Baseline, log: tuple[str, str], bounds: Mapping[int, tuple[int, int]]
) -> Iterator[str]:
    """Why counting cannot begin at this baseline; nothing if it can."""
    for place, decided in snapshot.decided.items():
        start, (*of, partition) = start_of(snapshot, baseline, place), place
        if start >= decided.to:
            continue
        if tuple(of) != log:
            yield f"partition {partition} of topic id {place[1]} was counted too, which is another log"
        elif start < bounds[partition][0]:
            yield f"partition {partition}: the offsets {start} to {bounds[partition][0]} are no longer in the log"


def start_of(snapshot: Snapshot, baseline: Baseline, place: Place) -> int:
    then = baseline.decided.get(place)
    return snapshot.begins[place] if then is None else then.to


def _starts(snapshot: Snapshot, baseline: Baseline, log: tuple[str, str]) -> dict[int, int]:
    return {place[2]: start_of(snapshot, baseline, place) for place in snapshot.decided if place[:2] == log}


def _ends(snapshot: Snapshot, log: tuple[str, str]) -> dict[int, int]:
    return {place[2]: decided.to for place, decided in snapshot.decided.items() if place[:2] == log}
