"""Every limit on a call, and the rules on its texts and times: one list for the door and for the worker."""

from datetime import UTC, datetime
from typing import Final, NamedTuple

MAX_COUNT: Final = 10**12  # either sign; keeps the sum of every batch inside int64
MAX_MODELS: Final = 256
MAX_STATUSES: Final = 64
PROJECT_ID_BYTES: Final = (1, 256)  # least and most, as UTF-8
ID_BYTES: Final = (1, 256)
MODEL_BYTES: Final = (0, 512)  # clients do send an empty model name
STATUS_BYTES: Final = (0, 64)  # of the worker; the door knows TraceStatus only
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

# Times of a call (`ended_at`, and the one in a timed id) against the time of its ingest. The worker, which measures
# against the broker's timestamp of the record, is a day and an hour wider than the door, which measures against its
# own clock: what the door accepts is never dead-lettered, be the clocks an hour apart or the record a day under way.
DOOR_OLDEST_DAYS: Final = -1  # added to the dedupe horizon
DOOR_AHEAD_HOURS: Final = 24
WORKER_OLDEST_DAYS: Final = 0
WORKER_AHEAD_HOURS: Final = 25

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
US_PER_HOUR: Final = 3_600_000_000


class Breach(NamedTuple):
    """A rule that is broken: its name, and a sentence with field and limit, without the value."""

    type: str
    msg: str


class Window(NamedTuple):
    """Both ends included, microseconds since the epoch."""

    oldest_us: int
    newest_us: int


def text_breach(field: str, text: str, length: tuple[int, int]) -> Breach | None:
    least, most = length
    if not least <= len(text) <= most or (not text.isascii() and len(text.encode()) > most):
        return Breach("text_length", f"{field} must have {least} to {most} bytes of UTF-8")
    if "\0" in text:
        return Breach("nul_character", f"{field} must not contain the character NUL")
    return None


def project_id_breach(project_id: str) -> Breach | None:
    entity, _, project = project_id.partition("/")
    if not (entity and project):
        return Breach("project_id", "project_id must be entity/project: two non-empty parts around the first slash")
    return text_breach("project_id", project_id, PROJECT_ID_BYTES)


def door_window(now: datetime, horizon_days: int) -> Window:
    now_us = to_us(now)
    oldest_us = now_us - (horizon_days + DOOR_OLDEST_DAYS) * 24 * US_PER_HOUR
    return Window(oldest_us, now_us + DOOR_AHEAD_HOURS * US_PER_HOUR)


def worker_window(record_time_ms: int, horizon_days: int) -> Window:
    time_us = record_time_ms * 1000
    oldest_us = time_us - (horizon_days + WORKER_OLDEST_DAYS) * 24 * US_PER_HOUR
    return Window(oldest_us, time_us + WORKER_AHEAD_HOURS * US_PER_HOUR)


def to_us(time: datetime) -> int:
    """Microseconds since the epoch of an aware time; exact, where `timestamp()` goes through a float."""
    since = time - EPOCH
    return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds
