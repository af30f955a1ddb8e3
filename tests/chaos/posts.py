"""The requests of a run: one seed gives the same ones again and again, so that nobody has to keep them.

Every post of a call carries the post's own number, as `wb_run_step_end`: so each record on the log tells of which post
it is, whatever the door and the database say.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Final

from processor.sample.bad_bodies import JSON, Headers, bad_bodies
from processor.sample.spelling import spelled
from processor.sample.traces import End, traces

DAYS: Final = 10
PROJECTS_PER_NAME: Final = 8  # the sample's names, each with a number behind it: every partition gets calls
BAD_SHARE: Final = 0.003
REPEATED_SHARE: Final = 0.03
DISPUTED_SHARE: Final = 0.003
NEAR_POSTS: Final = 200  # a repeat comes so much later at most: a retry; or, a replay after a restart, within
FAR_SHARE: Final = 0.02  # of all posts
BAD_MAX_BYTES: Final = 64 * 1024  # the sample's bodies of 8 MiB would be most of the traffic
OTHER_CONTENT: Final = {"summary": {"usage": {"late": {"requests": 1}}}}


@dataclass(frozen=True, slots=True)
class Post:
    """`call`: posts with the same number repeat one call; None: no call, the door must refuse it with `refusal`.

    `disputed`: among the posts of its call is one with other content, so it matters which comes first on the log.
    """

    number: int
    call: int | None
    end: End
    disputed: bool = False
    body: bytes = b""
    headers: Headers = JSON
    refusal: int | None = None


def posts(seed: int, now: datetime, amount: int) -> Iterator[Post]:
    """`amount` of them, numbered from 0, repeats and bad bodies among them."""
    r = Random(seed)
    ends = (end for trace in traces(r, now=now, days=DAYS) for end in _of_one_project(r, trace))
    bad = [each for each in bad_bodies(now) if len(each[0]) <= BAD_MAX_BYTES]
    calls, repeats = count(), _Repeats(r, NEAR_POSTS + round(FAR_SHARE * amount))
    for number in range(amount):
        if repeats.is_due(number):
            call, end, disputed = repeats.pop()
        elif r.random() < BAD_SHARE:
            body, headers, refusal = r.choice(bad)
            yield Post(number, None, {}, body=body, headers=headers, refusal=refusal)
            continue
        else:
            call, end, disputed = next(calls), next(ends), r.random() < DISPUTED_SHARE
            if disputed:
                repeats.add(number, (call, end | OTHER_CONTENT, disputed))
            if disputed or r.random() < REPEATED_SHARE:
                repeats.add(number, (call, end, disputed))
        yield Post(number, call, end | {"wb_run_step_end": number}, disputed)


def request_body(post: Post) -> bytes:
    """In one of the spellings that clients use, the same one each time."""
    if post.call is None:
        return post.body
    r = Random(post.number)
    return json.dumps({"end": spelled(r, post.end)}, ensure_ascii=r.random() < 0.5).encode()


def _of_one_project(r: Random, trace: list[End]) -> list[End]:
    suffix = f"-{r.randrange(PROJECTS_PER_NAME)}"
    return [end | {"project_id": end["project_id"] + suffix} for end in trace]


Repeat = tuple[int, End, bool]  # call, end, disputed


@dataclass(slots=True)
class _Repeats:
    """Those that come later."""

    r: Random
    far: int  # how much later, at most
    _heap: list[tuple[int, int, Repeat]] = field(default_factory=list)  # due, a number that no other has
    _numbers: Iterator[int] = field(default_factory=count)

    def add(self, now: int, repeat: Repeat) -> None:
        due = now + self.r.randint(1, self.r.choice((NEAR_POSTS, self.far)))
        heappush(self._heap, (due, next(self._numbers), repeat))

    def is_due(self, number: int) -> bool:
        return bool(self._heap) and self._heap[0][0] <= number

    def pop(self) -> Repeat:
        return heappop(self._heap)[2]
