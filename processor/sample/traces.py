"""Traces of LLM calls as clients finish them: children before their parent, each as the `end` object it posts.

The shapes are those that make totals hard. The Python SDK adds the summaries of a call's children to the parent's; the
TypeScript SDK does so too and posts no status_counts; agent SDKs put the usage on the root alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from processor.calls import USAGE_FIELDS
from processor.sample.spelling import span_id, uuid7

End = dict[str, Any]  # what a client posts under `end`; ended_at is ISO 8601 with a zone
Summary = dict[str, Any]

PROJECTS = ("acme/chat", "acme/Chat", "acme/agents/nightly", "bücher/索引", "acme/evaluation")
MODELS = ("gpt-4o", "gpt-4o-mini-2024-07-18", "claude-sonnet-4-5", "gemini/gemini-2.5-pro", "モデル 7b", "")


def traces(r: Random, *, now: datetime, days: float) -> Iterable[list[End]]:
    """Traces without end, each finished between `days` ago and a few minutes ahead of `now` (clocks differ)."""
    shapes: list[Callable[[Trace], list[End]]] = [python_trace, lone_calls, typescript_trace, agent_trace, evaluation]
    while True:
        ago_s = r.uniform(-600, 3 * 3600) if r.random() < 0.6 else r.uniform(0, days * 86400)
        trace = Trace(
            r,
            project=r.choices(PROJECTS, (6, 2, 2, 1, 1))[0],
            at=now - timedelta(seconds=ago_s),
            spans=r.random() < 0.2,
        )
        yield r.choices(shapes, (5, 5, 2, 2, 1))[0](trace)


def example(now: datetime) -> End:
    """A call to try by hand, as small as it is useful."""
    r = Random()  # noqa: S311 - another id each time
    end = Trace(r, project="acme/try", at=now, spans=False).end(
        {
            "usage": {"gpt-4o": {"prompt_tokens": 12, "completion_tokens": 30, "total_tokens": 42, "requests": 1}},
            "status_counts": {"success": 1, "error": 0},
        }
    )
    return end | {"ended_at": now.isoformat(), "output": "Hello!"}


@dataclass
class Trace:
    """What the calls of one trace share; `at` moves on as they end."""

    r: Random
    project: str
    at: datetime
    spans: bool  # OpenTelemetry ids in place of UUIDv7
    trace_id: str = field(init=False)

    def __post_init__(self) -> None:
        self.trace_id = f"{self.r.getrandbits(128):032x}" if self.spans else uuid7(self.r, self.at)

    def end(self, summary: Summary, **more: Any) -> End:
        started, self.at = self.at, self.at + timedelta(microseconds=self.r.randrange(20_000_000))
        return {
            "project_id": self.project,
            "id": span_id(self.r) if self.spans else uuid7(self.r, started),
            "trace_id": self.trace_id,
            "started_at": started.isoformat(),
            "ended_at": self.at.isoformat(),
            "exception": None,
            "output": {"choices": [{"text": "ünïcode \U0001f600 " * self.r.randrange(5)}], "score": self.r.random()},
            "summary": summary,
            "wb_run_step_end": None,
        } | more

    def own(self) -> tuple[dict[str, int], dict[str, Any]]:
        """The status_counts that the SDK writes for a call itself, and the fields that go with it."""
        if self.r.random() < 0.05:
            return {"success": 0, "error": 1}, {"exception": self.r.choice(("RateLimitError: 429", "")), "output": None}
        return {"success": 1, "error": 0}, {}


def lone_calls(trace: Trace) -> list[End]:
    return [llm_call(trace) for _ in range(trace.r.randint(1, 4))]


def llm_call(trace: Trace) -> End:
    """A call to a model. One in ten is odd: what its summary says is valid and rare."""
    status_counts, more = trace.own()
    summary: Summary = {"usage": {trace.r.choice(MODELS): tokens(trace.r)}, "status_counts": status_counts}
    if trace.r.random() < 0.1:
        summary |= trace.r.choice(ODD)
    return trace.end(summary, **more)


def tokens(r: Random) -> dict[str, Any]:
    """OpenAI's names, or Anthropic's with its cache counts; extras that cannot be added up."""
    first, second = ("prompt_tokens", "completion_tokens") if r.random() < 0.6 else ("input_tokens", "output_tokens")
    counts: dict[str, Any] = {first: r.randrange(4000), second: r.randrange(900)}
    counts |= {"total_tokens": counts[first] + counts[second], "requests": 1}
    if first == "input_tokens":
        counts |= {"cache_read_input_tokens": r.randrange(2000), "cache_creation_input_tokens": None}
    if r.random() < 0.2:
        counts |= {"completion_tokens_details": {"reasoning_tokens": 7}, "cost": 0.0125, "tier": "default"}
    return counts


ODD: tuple[Summary, ...] = (
    {"usage": {}},
    {"usage": {"gpt-4o": {}}},
    {"usage": {"gpt-4o": dict.fromkeys(USAGE_FIELDS)}},
    {"usage": {"gpt-4o": {"prompt_tokens": 11, "input_tokens": 7, "completion_tokens": 5, "output_tokens": 3}}},
    {"usage": {"gpt-4o": {"cache_read_input_tokens": 120_000}, "": {"cache_read_input_tokens": -900}}},
    {"usage": {"gpt-4o": {"prompt_tokens": -25, "total_tokens": -25}}},  # a correction
    {"status_counts": {"running": 1}},
    {"status_counts": {"descendant_error": 1}},
    {"status_counts": {}},
    {"status_counts": {"success": -1}},
    {"weave": {"latency_ms": 12, "trace_name": "bücher"}, "note": ["a", None]},
)


def python_trace(trace: Trace, depth: int | None = None, **more: Any) -> list[End]:
    """Nested operations: each posts the sum of its children's summaries instead of its own, and its own status."""
    depth = trace.r.randint(1, 3) if depth is None else depth
    if depth == 0:
        return [llm_call(trace) | more]
    inner = [python_trace(trace, depth - 1, **more) for _ in range(trace.r.randint(1, 3))]
    status_counts, fields = trace.own()
    summary = added_up([calls[-1]["summary"] for calls in inner] + [{"status_counts": status_counts}])
    return [call for calls in inner for call in calls] + [trace.end(summary, **fields, **more)]


def typescript_trace(trace: Trace) -> list[End]:
    """Usage of the children included, but no status_counts: nothing says that the parent repeats them."""
    calls = python_trace(trace)
    for call in calls:
        call["summary"] = {name: value for name, value in call["summary"].items() if name != "status_counts"}
    return calls


def agent_trace(trace: Trace) -> list[End]:
    """An agent SDK's root has all the usage; the steps below it have none."""
    steps = [trace.end({"status_counts": trace.own()[0]}) for _ in range(trace.r.randint(1, 3))]
    summary = added_up([step["summary"] for step in steps] + [{"status_counts": {"success": 1}}])
    return [*steps, trace.end(summary | {"usage": {trace.r.choice(MODELS): tokens(trace.r)}})]


def evaluation(trace: Trace) -> list[End]:
    return python_trace(trace, depth=2, is_eval=True, display_name="Evaluation.evaluate")


def added_up(parts: list[Any]) -> Any:
    """The SDK's way to add up summaries: objects by key, numbers summed, no nulls, all else gathered in a list."""
    if not parts:
        return None
    if all(isinstance(part, dict) for part in parts):
        names = dict.fromkeys(name for part in parts for name in part)
        return {name: added_up([part[name] for part in parts if part.get(name) is not None]) for name in names}
    if all(isinstance(part, int | float) for part in parts):
        return sum(parts)
    return [item for part in parts for item in (part if isinstance(part, list) else [part])]
