"""What a run found, as text and as JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Final

from tests.chaos.judge import Problem
from tests.chaos.watch import Takeover

P99_FROM: Final = 30  # takeovers; of fewer it is the maximum
MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Times:
    """In seconds."""

    count: int
    median: float
    most: float
    p99: float | None

    @classmethod
    def of(cls, takeovers: Sequence[Takeover]) -> "Times":
        times = sorted(one.seconds for one in takeovers)
        if not times:
            return cls(0, 0.0, 0.0, None)
        p99 = times[math.ceil(0.99 * len(times)) - 1] if len(times) >= P99_FROM else None
        return cls(len(times), median(times), times[-1], p99)

    def __str__(self) -> str:
        if not self.count:
            return "none"
        p99 = "" if self.p99 is None else f", p99 {self.p99:.1f} s"
        return f"{self.count}: median {self.median:.1f} s{p99}, maximum {self.most:.1f} s"


@dataclass(frozen=True, slots=True)
class Report:
    command: str
    seed: int
    group_protocol: str
    cores: int
    seconds: float  # in all
    posting_s: float  # from the first post to the last answer
    posts: int
    acknowledged: int
    refused: int
    unknown_on_log: int
    unknown_not_on_log: int
    attempts: int
    unanswered_attempts: int
    answers: dict[int, int]  # by status
    faults: dict[str, int]
    impossible_faults: dict[str, int]
    overlapping_faults: int  # that began while another one lasted
    commits_without_answer: int
    partitions: int
    records: int
    calls_counted: int
    repeats_absorbed: int
    conflicts: int
    settled_by_key: int
    dead_letters: int
    tombstones: int
    rows_compared: int
    drift_rows: int
    unaccounted_offsets: int
    takeovers_undisturbed: Times
    takeovers: Times
    memory_bytes: dict[str, int]
    exits: dict[int, int]  # processes that ended by themselves and were started again, by exit code
    problems: list[Problem]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, default=str)

    def to_text(self) -> str:
        """Some lines; the last says how it ended."""
        unknown = self.unknown_on_log + self.unknown_not_on_log
        verdict = "WRONG" if self.problems else "OK"
        lines = [
            self.command,
            f"posts         {self.posts:,} in {self.posting_s:,.0f} s | acknowledged {self.acknowledged:,} | refused "
            f"{self.refused:,} | unknown {unknown:,} "
            f"({self.unknown_on_log:,} of them on the log)",
            f"attempts      {self.attempts:,}, of them {self.unanswered_attempts:,} without an answer | "
            + " ".join(f"{status}: {number:,}" for status, number in sorted(self.answers.items())),
            f"faults        {sum(self.faults.values())}, {self.overlapping_faults} began while another lasted | "
            f"{self.commits_without_answer} commits whose answer was lost",
            *(f"              {number:4d} {name}" for name, number in sorted(self.faults.items())),
            *(f"              {number:4d} {name}: impossible" for name, number in self.impossible_faults.items()),
            f"log           {self.records:,} records on {self.partitions} partitions | {self.settled_by_key} calls "
            "settled by key",
            f"counted       {self.calls_counted:,} calls | repeats absorbed {self.repeats_absorbed:,} "
            f"({self.conflicts:,} with other content) | dead letters {self.dead_letters:,} | tombstones "
            f"{self.tombstones:,}",
            f"takeover      {self.takeovers_undisturbed} (while nothing else was broken)",
            f"              {self.takeovers} (all)",
            "memory        " + " | ".join(f"{role} {size // MIB} MiB" for role, size in self.memory_bytes.items()),
            "exits         " + (" | ".join(f"code {code}: {n}" for code, n in self.exits.items()) or "none"),
            f"drift         {self.drift_rows} of {self.rows_compared:,} rows",
            f"conservation  {self.unaccounted_offsets} offsets unaccounted for",
            *(f"WRONG         {problem}" for problem in self.problems),
            f"{verdict}  after {self.seconds:,.0f} s on {self.cores} cores, seed {self.seed}, "
            f"group.protocol={self.group_protocol}",
        ]
        return "\n".join(lines)
