"""One sample of LLM calls sent through a running stack, and what came of it."""

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from processor.calls import parse_call_end
from processor.codec.rows import encode
from processor.deadline import Deadline
from processor.embedded.stack import Stack
from processor.errors import ExitCode, Stop
from processor.kafka.producer import Producer
from processor.kafka.promises import MIB, producer_properties
from processor.kafka.properties import connection_properties
from processor.kafka.topics import Topics
from processor.sample import stored
from processor.sample.comparison import Comparison
from processor.sample.foreign import Foreign, foreign_records
from processor.sample.posts import Post, sample
from processor.sample.sender import Answer, send
from processor.sample.stored import Counters

LOOK_EVERY_S: Final = 0.05
PUBLISHED_WITHIN_S: Final = 10.0
SENT_WITHIN_S: Final = 3600.0
COUNTED_WITHIN_S: Final = 120.0


def exercise(stack: Stack, calls: int, console: Console) -> Comparison:
    """Send one sample. Fresh calls each time, on top of what is there: the comparison is with before plus sent."""
    topics = Topics(connection_properties(stack.settings.kafka, stack.bootstrap_servers))
    posts = sample(secrets.randbits(64), now=datetime.now(UTC), calls=calls)
    projects = sorted({each.call[0] for each in posts if each.call})

    wait_until_counted(stack, topics)  # what an earlier run that was cut short had left
    before, counters = stored.read(stack.dsn, projects), count(stack)
    foreign = foreign_records(framed(posts))
    publish(stack, foreign)
    answers = send_all(stack, posts, console)
    wait_until_counted(stack, topics)
    return Comparison(
        answers,
        before=before,
        stored=stored.read(stack.dsn, projects),
        counters=count(stack).since(counters),
        foreign=Counters(
            dead_lettered=sum(record.reason is not None for record in foreign),
            skipped=sum(record.reason is None for record in foreign),
        ),
    )


def count(stack: Stack) -> Counters:
    return stored.counters(stack.dsn, stack.settings.kafka.topic)


def framed(posts: Sequence[Post]) -> bytes:
    """The record of one of these calls."""
    text = next(each.body for each in posts if each.call)
    return encode(parse_call_end(text, now=datetime.now(UTC), horizon_days=35))


def publish(stack: Stack, records: Sequence[Foreign]) -> None:
    kafka = stack.settings.kafka
    connection = connection_properties(kafka, stack.bootstrap_servers)
    producer = Producer(producer_properties(connection, delivery_timeout_s=PUBLISHED_WITHIN_S, max_record_bytes=MIB))
    try:
        producer.publish_all([(kafka.topic, b"foreign", each.value, ()) for each in records], PUBLISHED_WITHIN_S)
    finally:
        producer.close(timeout_s=1)


def send_all(stack: Stack, posts: Sequence[Post], console: Console) -> list[Answer]:
    """In another thread: this one looks after the children, and is the one that Ctrl-C interrupts."""
    stop = threading.Event()
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        ThreadPoolExecutor(1) as pool,
    ):
        bar = progress.add_task("", total=len(posts))
        sending = pool.submit(send, stack.ingest_url, posts, on_answer=lambda _: progress.advance(bar), stop=stop)
        try:
            wait_until(sending.done, stack, SENT_WITHIN_S, "all requests are answered")
        finally:
            stop.set()
        return sending.result()


def wait_until_counted(stack: Stack, topics: Topics) -> None:
    end = sum(topics.end_offsets(stack.settings.kafka.topic).values())
    wait_until(lambda: count(stack).next_offset >= end, stack, COUNTED_WITHIN_S, "every record is counted")


def wait_until(done: Callable[[], bool], stack: Stack, within_s: float, what: str) -> None:
    deadline = Deadline.after(within_s)
    while not done():
        stack.supervisor.look()
        if deadline.passed():
            raise Stop(
                ExitCode.DEPENDENCY, f"after {within_s:.0f} s still not so: {what}; the messages above may say why"
            )
        time.sleep(LOOK_EVERY_S)
