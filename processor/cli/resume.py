"""`call-processor resume`: go on after the breaker has stopped the workers."""

import typer

from processor import config
from processor.cli.answering import answering
from processor.cli.log import log_of, topics_of
from processor.deadline import Deadline
from processor.sinks.postgres.operate import resume

DEADLINE_S = 20.0


def run() -> None:
    """Close tripped breakers. What is in the topic now is not judged again: it may all become dead letters."""
    settings = config.load()
    with answering("KAFKA__BOOTSTRAP_SERVERS"):
        topics = topics_of(settings)
        log, log_ends = log_of(settings, topics), topics.end_offsets(settings.kafka.topic)
    with answering():
        partitions = resume(settings.dsn(), log, log_ends, Deadline.after(DEADLINE_S))
    if partitions:
        typer.echo(f"resumed: partitions {', '.join(map(str, partitions))}; the workers go on")
    else:
        typer.echo("no breaker has tripped: nothing to do")
