"""`call-processor topics`: make the two topics as they must be. Topics that exist are left as they are."""

from collections.abc import Iterator
from typing import Annotated

import typer

from processor import config
from processor.cli.answering import answering
from processor.config import Settings
from processor.errors import Stop
from processor.kafka.acls import acls_by_role
from processor.kafka.properties import connection_properties
from processor.kafka.topics import MIB, Topics, TopicSpec


def run(
    partitions: Annotated[
        int, typer.Option(min=1, help="Partitions of the topic of calls: most workers at once.")
    ] = 12,
    replication_factor: Annotated[int, typer.Option(min=1, help="Copies of each partition.")] = 3,
    acls: Annotated[
        bool, typer.Option("--acls", help="Print the ACLs that ingest, worker and topics need, and do nothing.")
    ] = False,
) -> None:
    """Create the topic of calls and the dead-letter topic."""
    settings = config.load()
    if acls:
        typer.echo("\n".join(acl_lines(settings)))
        return
    topics = Topics(connection_properties(settings.kafka, settings.bootstrap_servers()))
    for spec in specs(settings, partitions, replication_factor):
        with answering("KAFKA__BOOTSTRAP_SERVERS"):
            created = topics.create(spec)
            said = "created" if created else _as_it_is(_partitions(topics, spec.name), spec)
        typer.echo(f"{spec.name}: {said}")


def _as_it_is(partitions: int | None, spec: TopicSpec) -> str:
    """`partitions`: those that it has; None if nobody tells us."""
    if partitions is None:
        return "exists: left as it is"
    asked = "" if partitions == spec.partitions else f", not {spec.partitions}"
    return f"exists with {partitions} {'partition' if partitions == 1 else 'partitions'}{asked}: left as it is"


def _partitions(topics: Topics, name: str) -> int | None:
    try:
        return topics.describe(name).partitions
    except Stop:  # whoever may create it need not be one who may look at it
        return None


def acl_lines(settings: Settings) -> Iterator[str]:
    """One a line: the role, then arguments of `kafka-acls`."""
    for role, needed in acls_by_role(settings.kafka).items():
        for acl in needed:
            yield f"{role} --{acl.resource} {acl.name} --operation {acl.operation}"


def specs(settings: Settings, partitions: int, replication_factor: int) -> tuple[TopicSpec, TopicSpec]:
    """The topic of calls and the dead-letter topic, as they should be."""
    limit = settings.ingest.max_record_bytes
    return (
        TopicSpec(settings.kafka.topic, partitions, replication_factor, 7, limit),
        # Our headers come on top of the record: whatever the topic of calls took, this one must take too.
        TopicSpec(settings.kafka.dead_letters, 1, replication_factor, 30, limit + MIB),
    )
