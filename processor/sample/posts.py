"""The requests of one run, in the order in which they are sent: calls, repeats, conflicts and bad bodies."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from random import Random
from typing import Any

from processor.sample.bad_bodies import JSON, Headers, bad_bodies
from processor.sample.spelling import spelled
from processor.sample.traces import End, traces


@dataclass(frozen=True, slots=True)
class Post:
    """One request and the answer that it must get. Posts of one `call` are sent one after the other, in their order."""

    body: bytes
    headers: Headers = JSON
    expect: int = 200
    call: tuple[str, str] | None = None  # (project_id, id); None for a body that names no valid call

    def parsed(self) -> dict[str, Any]:
        """The `end` object of a valid body."""
        end: dict[str, Any] = json.loads(self.body)["end"]
        return end


def sample(seed: int, *, now: datetime, calls: int = 2000, days: float = 10, bad: bool = True) -> list[Post]:
    """`calls` different calls ended within `days` of `now`, about 3 % of them posted again, and bad bodies among them.

    One seed gives one list; two seeds have no call in common. One repeat in ten differs in what is counted.
    """
    r = Random(seed)  # noqa: S311 - a sample to be drawn again by its seed, not a secret
    ends = list(islice((end for trace in traces(r, now=now, days=days) for end in trace), calls))
    placed: list[tuple[float, Post]] = []
    for place, end in enumerate(ends):
        placed.append((place, post(r, end)))
        placed.extend((place + r.uniform(0.5, 400), again) for again in _repeats(r, end))
    if bad:
        placed.extend((r.uniform(0, calls), Post(*each)) for each in bad_bodies(now))
    return [each for _, each in sorted(placed, key=lambda pair: pair[0])]


def post(r: Random, end: End) -> Post:
    body = json.dumps({"end": spelled(r, end)}, ensure_ascii=r.random() < 0.5).encode()
    return Post(body, call=(end["project_id"], end["id"]))


def _repeats(r: Random, end: End) -> Iterator[Post]:
    """The same call again (sent twice, in another spelling, or with another output); or with other numbers; or its id
    in another project, which is another call."""
    draw = r.random()
    if draw < 0.027:
        yield post(r, end)
        if draw < 0.005:
            yield post(r, end | {"output": "again", "wb_run_step_end": 3})
    elif draw < 0.03:
        yield post(r, r.choice(_CHANGES)(end))
    elif draw < 0.032:
        yield post(r, end | {"project_id": "acme/other"})


def _another_hour(end: End) -> End:
    return end | {"ended_at": (datetime.fromisoformat(end["ended_at"]) - timedelta(hours=1)).isoformat()}


def _another_outcome(end: End) -> End:
    return end | {"exception": "late" if end["exception"] is None else None}


def _another_usage(end: End) -> End:
    return end | {"summary": end["summary"] | {"usage": {"late": {"requests": 1}}}}


def _another_status(end: End) -> End:
    return end | {"summary": end["summary"] | {"status_counts": {"success": 5, "error": 5}}}


_CHANGES: Sequence[Any] = (_another_hour, _another_outcome, _another_usage, _another_status)
