"""`call-processor maintain`: look after the tables. The workers do it by themselves, one of them at a time."""

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Final

import typer

from processor import config
from processor.cli.answering import answering
from processor.cli.log import topics_of
from processor.config import Settings
from processor.deadline import Deadline
from processor.errors import ExitCode, Stop
from processor.kafka.topics import Topics
from processor.ledger import Place
from processor.sinks.postgres.maintain import Done, maintain, topics_counted

DEADLINE_S: Final = 600.0


def run() -> None:
    """Create tomorrow's dedupe keys, drop days that no record can need, keep a baseline a day for `verify`."""
    settings = config.load()
    with answering("KAFKA__BOOTSTRAP_SERVERS and POSTGRES__DSN"):
        done = maintain_once(settings.dsn, settings, topics_of(settings), Deadline.after(DEADLINE_S))
    if done is None:
        raise Stop(ExitCode.DEPENDENCY, "another program looks after these tables now: nothing was done")
    typer.echo("\n".join(told(done)))


def maintain_once(dsn: Callable[[], str], settings: Settings, topics: Topics, deadline: Deadline) -> Done | None:
    """None if another program is at it."""
    asked_at = dt.datetime.now(dt.UTC)
    bounds: dict[Place, tuple[int, int]] = {}
    for name in {settings.kafka.topic, *topics_counted(dsn(), deadline)}:
        try:
            topic = topics.describe(name)
        except Stop:
            continue  # a topic that is gone; its rows hold the floor where they are
        bounds |= {(topic.cluster_id, topic.topic_id, p): pair for p, pair in topics.bounds(name).items()}
    return maintain(dsn(), bounds, asked_at, settings.worker.dedupe_horizon_days, deadline)


def told(done: Done) -> Iterator[str]:
    yield f"key days created: {_days(done.created)}"
    yield f"keys are kept from {done.floor} on{_held(done)}"
    yield f"key days dropped: {_days(done.dropped)}; other keys deleted: {done.deleted_untimed:,}"
    if done.left or done.more_untimed:
        yield f"left for the next run: {_days(done.left)}{', and other keys' if done.more_untimed else ''}"
    why_none = "none, the last one is younger than a day, or a partition is read again"
    taken = why_none if done.baseline is None else f"number {done.baseline}"
    yield f"baseline taken: {taken}; removed: {done.baselines_removed}"


def _held(done: Done) -> str:
    if done.computed.held_by is None:
        return ""
    _, topic_id, partition = done.computed.held_by
    why = "is not counted yet" if done.computed.day is None else "is behind"
    return f": held back by partition {partition} of topic id {topic_id}, which {why}"


def _days(days: list[dt.date]) -> str:
    return ", ".join(map(str, days)) or "none"
