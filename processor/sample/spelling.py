"""How clients spell the same thing: ids, times, numbers. What is drawn comes from the given random source alone."""

from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any


def uuid7(r: Random, at: datetime) -> str:
    """A UUIDv7 as the SDK makes them: the millisecond, then random bits."""
    bits = int(at.timestamp() * 1000) << 80 | 0x7 << 76 | r.getrandbits(12) << 64 | 0b10 << 62 | r.getrandbits(62)
    text = f"{bits:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def span_id(r: Random) -> str:
    """An OpenTelemetry span id: 16 hex digits, no time in it."""
    return f"{r.getrandbits(64):016x}"


def timestamp(r: Random, at: datetime) -> str | int:
    """One of the spellings of a moment that the contract takes; mostly the SDK's own."""
    draw = r.random()
    if draw < 0.7:
        return at.isoformat()
    if draw < 0.8:
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")  # TypeScript
    if draw < 0.88:
        return at.replace(tzinfo=None).isoformat(sep=r.choice("T "))  # no zone: UTC, never the server's
    if draw < 0.96:
        return at.astimezone(r.choice(_ZONES)).isoformat()
    return int(at.timestamp()) if draw < 0.98 else int(at.timestamp() * 1000)


_ZONES = [timezone(timedelta(minutes=minutes)) for minutes in (-480, -210, 60, 330, 345, 765)]


def number(r: Random, value: int) -> int | str | float | bool:
    """A count, now and then as text, as a float or as `true`: the original server takes these too."""
    draw = r.random()
    if draw < 0.97 or abs(value) > 2**53:
        return value
    if value == 1 and draw > 0.99:
        return True
    return str(value) if draw < 0.985 else float(value)


def spelled(r: Random, end: dict[str, Any]) -> dict[str, Any]:
    """The same call in one of its spellings: keys in another order, times and counts in other forms."""
    summary = dict(end["summary"])
    if "usage" in summary:
        summary["usage"] = {model: _spelled_counts(r, usage) for model, usage in _shuffled(r, summary["usage"]).items()}
    if "status_counts" in summary:
        summary["status_counts"] = _spelled_counts(r, summary["status_counts"])
    ended_at = datetime.fromisoformat(end["ended_at"]).astimezone(UTC)
    return _shuffled(r, end | {"ended_at": timestamp(r, ended_at), "summary": _shuffled(r, summary)})


def _spelled_counts(r: Random, counts: dict[str, Any]) -> dict[str, Any]:
    spell = {name: number(r, value) if type(value) is int else value for name, value in counts.items()}
    return _shuffled(r, spell)


def _shuffled(r: Random, mapping: dict[str, Any]) -> dict[str, Any]:
    names = list(mapping)
    r.shuffle(names)
    return {name: mapping[name] for name in names}
