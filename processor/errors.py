"""The three error words, the reasons for a dead letter, and the sentence with which a process ends.

| word        | at the door        | in the worker                          |
|-------------|--------------------|----------------------------------------|
| InvalidCall | 422                | dead letter                            |
| TooLarge    | 413                | dead letter                            |
| Unavailable | 503 + Retry-After  | pause, back off, the same batch again  |
| other       | 500, logged        | crash, offsets untouched               |
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """One entry of a 422 answer: where, what rule, and the rule's name. Never a value that the client sent."""

    loc: tuple[str | int, ...]
    msg: str
    type: str


class InvalidCall(Exception):
    """The call breaks a rule of the contract; sending it again cannot help."""

    def __init__(self, details: Sequence[ErrorDetail]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, d.loc))}: {d.msg}" for d in details))
        self.details = tuple(details)


class TooLarge(Exception):
    """The body or the record is larger than `limit_bytes`."""

    def __init__(self, what: str, limit_bytes: int) -> None:
        super().__init__(f"{what} is larger than the limit of {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class Unavailable(Exception):
    """Something we need does not answer now; the same request may succeed after `retry_after_s` (1..60).

    `reason`: one of few words, by which the door counts its answers.
    """

    def __init__(self, message: str, retry_after_s: int = 1, *, reason: str = "delivery_failed") -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.reason = reason


class Defect(Exception):
    """A bug of ours that was met where it can be named. Its text quotes no client and no secret, so it may be shown."""


class ReadFailed(Exception):
    """Reading the log failed in the middle: records may be missing, all that is not written must be read again."""


class DeadLetterReason(StrEnum):
    """Why a record can never be counted."""

    UNDECODABLE = "undecodable"
    UNKNOWN_SCHEMA = "unknown_schema"
    INVALID = "invalid"
    OUTSIDE_HORIZON = "outside_horizon"
    TOO_LARGE = "too_large"


class Rejected(Exception):
    """One record on the topic can never be counted. `detail` names field and limit, never a client's value."""

    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class ExitCode(IntEnum):
    OK = 0
    NUMBERS_DIFFER = 1
    USAGE = 2  # settings or usage
    DEPENDENCY = 3  # a dependency is absent or refuses
    PROTECT_NUMBERS = 4  # stopped, because going on could make a number wrong


class Stop(Exception):
    """Ends the process with one sentence for the operator (what is wrong, what to do) and an exit code."""

    def __init__(self, exit_code: ExitCode, sentence: str) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
