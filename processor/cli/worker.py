"""`call-processor worker`: a member of the consumer group, from the topic into the totals."""

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Annotated, Any, Final

import structlog
import typer

from processor import config, logs
from processor.admin import AdminServer, Health
from processor.cli.answering import answering
from processor.cli.lag_watch import LagWatch, now_ms
from processor.cli.log import identity
from processor.cli.maintenance import Maintenance
from processor.cli.process import collect_garbage_seldom, process_metrics
from processor.codec.columns import NativeFailure
from processor.config import Settings
from processor.dead_letters import DeadLetters, Letter
from processor.deadline import Deadline
from processor.errors import ExitCode, Stop, Unavailable
from processor.kafka.check import check_topics
from processor.kafka.consumer import Consumer, consumer_properties
from processor.kafka.log_watch import LogWatch
from processor.kafka.producer import Producer
from processor.kafka.promises import dead_letter_properties
from processor.kafka.properties import connection_properties
from processor.kafka.topics import Topic, Topics
from processor.metrics import ProcessMetrics, WorkerMetrics, new_registry
from processor.sinks.postgres.write import PostgresSink
from processor.supervise import run_processes
from processor.worker.assignment import Assignment
from processor.worker.breaker import BreakerLimits
from processor.worker.decode import Decoder
from processor.worker.loop import SINK_DEADLINE_S, Limits, Worker
from processor.worker.rebalances import Rebalances

log = structlog.get_logger(__name__)

STUCK_AFTER_S: Final = 60.0  # longer than write deadline, dead-letter ack and connect together
SAY_EVERY_S: Final = 10.0
LAST_SCRAPE_WITHIN_S: Final = 30.0  # twice the usual interval


def run(processes: Annotated[int, typer.Option(min=1, help="Members of the group, one process each.")] = 1) -> None:
    """Count calls: read the topic as a member of the consumer group, write totals to PostgreSQL."""
    settings = config.load()
    logs.configure(settings.log, "worker")
    structlog.contextvars.bind_contextvars(topic=settings.kafka.topic)
    if processes > 1:
        run_processes("worker", processes, settings)
        return
    stop = _StopSignal()
    worker_of: list[Worker] = []
    registry = new_registry()
    process, metrics = process_metrics(registry, "worker"), WorkerMetrics(registry)
    health = Health(alive=lambda: _stuck(worker_of), ready=lambda: _not_ready(worker_of, stop))
    with AdminServer(settings.admin.listen, registry, health) as admin, _telling_why(metrics, admin, stop):
        connection = connection_properties(settings.kafka, settings.bootstrap_servers())
        topics = Topics(connection)
        worker = _build(settings, connection, topics, process, metrics, stop)
        if worker is None:
            return
        collect_garbage_seldom()
        worker_of.append(worker)
        process.loop_turn_age_seconds.set_function(lambda: time.monotonic() - worker.last_turn_s)
        watch = LagWatch(partial(topics.end_offsets, settings.kafka.topic), worker.lag, metrics)
        with Maintenance(settings, metrics), watch:
            worker.run(stop)


@contextmanager
def _telling_why(metrics: WorkerMetrics, admin: AdminServer, stop: "_StopSignal") -> Iterator[None]:
    """A worker that ends to protect the numbers waits for whoever scrapes it: else only the log would know."""
    try:
        yield
    except Stop as why:
        if why.exit_code is ExitCode.PROTECT_NUMBERS:
            metrics.protecting_numbers.set(1)
            admin.wait_for_scrape(LAST_SCRAPE_WITHIN_S, stop)
        raise


class _StopSignal:
    """True once SIGTERM or SIGINT came."""

    def __init__(self) -> None:
        self._came = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._set)

    def __call__(self) -> bool:
        return self._came

    def _set(self, number: int, frame: FrameType | None) -> None:
        self._came = True


def _build(
    settings: Settings,
    connection: Mapping[str, str],
    topics: Topics,
    process: ProcessMetrics,
    metrics: WorkerMetrics,
    stop: _StopSignal,
) -> Worker | None:
    """None if a stop signal came while no broker answered."""
    settings.dsn()  # a missing DSN is said before anything is waited for; it is read anew at every connection
    topic = _wait_for_topic(topics, settings.kafka.topic, stop)
    if topic is None:
        return None
    with answering("KAFKA__BOOTSTRAP_SERVERS"):
        calls, letters = topics.state(settings.kafka.topic), topics.state(settings.kafka.dead_letters, "Write")
        for warning in check_topics(calls, letters):
            log.warning("topic", warning=warning)
    metrics.retention_seconds.set(calls.retention_s)
    sink = PostgresSink(settings.dsn, identity(settings, topic), metrics.fold_seconds.time)
    with answering():
        sink.read([], Deadline.after(SINK_DEADLINE_S))  # connects, and refuses a schema or a log that does not fit
    assignment = Assignment(time.monotonic)

    def native_failure(failure: NativeFailure) -> None:
        metrics.native_failures.inc()
        log.error("a batch is decoded row by row", why=str(failure))

    return Worker(
        reader=Consumer(
            consumer_properties(connection, settings.kafka.group, settings.worker.session_timeout_s),
            settings.kafka.topic,
            Rebalances(assignment, metrics),
            LogWatch(topics, settings.kafka.topic, topic, time.monotonic),
            process.kafka,
        ),
        assignment=assignment,
        sink=sink,
        dead_letters=_dead_letters(settings, connection, topic),
        decode=Decoder(settings.worker.dedupe_horizon_days, native_failure),
        limits=_limits(settings.worker),
        metrics=metrics,
        clock=time.monotonic,
        now_ms=now_ms,
    )


def _limits(worker: config.Worker) -> Limits:
    breaker = BreakerLimits(worker.breaker_run, worker.breaker_share)
    return Limits(worker.batch_max_records, worker.batch_max_age_s, breaker)


def _wait_for_topic(topics: Topics, name: str, stop: _StopSignal) -> Topic | None:
    """The topic as the broker describes it; while none answers, says so now and then. None: told to stop."""
    say_at_s = 0.0
    while not stop():
        try:
            return topics.describe(name)
        except Unavailable as error:
            if time.monotonic() >= say_at_s:
                log.warning("no broker answers, waiting", reason=str(error))
                say_at_s = time.monotonic() + SAY_EVERY_S
    return None


def _dead_letters(settings: Settings, connection: Mapping[str, Any], topic: Topic) -> DeadLetters:
    producer = Producer(dead_letter_properties(connection))

    def publish(letters: Sequence[Letter], timeout_s: float) -> None:
        name = settings.kafka.dead_letters
        producer.publish_all([(name, one.key, one.value, one.headers) for one in letters], timeout_s)

    return DeadLetters(publish, topic=settings.kafka.topic, topic_id=topic.topic_id)


def _stuck(workers: Sequence[Worker]) -> str | None:
    """Alive is who turns: not who has partitions (an idle member is healthy), nor whose database answers."""
    for worker in workers:
        age_s = time.monotonic() - worker.last_turn_s
        if age_s > STUCK_AFTER_S:
            return f"the loop has not turned for {age_s:.0f} s"
    return None


def _not_ready(workers: Sequence[Worker], stop: _StopSignal) -> str | None:
    if stop():
        return "stopping"
    for worker in workers:
        if not worker.assignment.joined:
            return "has not joined the consumer group yet"
        if worker.failures:
            return f"cannot write now: {worker.waiting_for}"
        return None
    return "no broker has answered yet"
