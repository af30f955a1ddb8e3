"""Where it is measured: the servers that `call-processor up` would start, and what is put on them."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from confluent_kafka.admin import AdminClient
from psycopg import sql

from bench.meter import Meter
from processor.deadline import Deadline
from processor.embedded.kafka import FOR_BENCHMARKS, EmbeddedKafka
from processor.embedded.postgres import EmbeddedPostgres
from processor.kafka.topics import MIB, Topics, TopicSpec
from processor.sinks.postgres.migrate import migrate
from tests.stack import START_TIMEOUT_S, Installation, Servers

ROOT: Final = Path(__file__).parents[1]
PARTITIONS: Final = 8
SESSION_TIMEOUT_S: Final = 10.0  # the default; tests have a shorter one


@dataclass(frozen=True, slots=True)
class Place:
    kafka: EmbeddedKafka
    postgres: EmbeddedPostgres
    folder: Path

    @property
    def servers(self) -> Servers:
        return Servers(self.kafka.bootstrap_servers, self.postgres.dsn)

    def meter(self, worker: int | None) -> Meter:
        """Of it and both servers."""
        roots = {"worker": worker, "PostgreSQL": self.postgres.pid, "broker": self.kafka.pid}
        return Meter({name: pid for name, pid in roots.items() if pid is not None})

    @contextmanager
    def topic(self, partitions: int = PARTITIONS) -> Iterator[str]:
        """A topic of calls and its dead letters, as `call-processor topics` makes them; removed afterwards."""
        name = f"b{uuid.uuid4().hex[:12]}"
        connection: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.kafka.bootstrap_servers,
            "log_level": 3,
        }
        topics = Topics(connection)
        topics.create(TopicSpec(f"{name}.dlq", 1, 1, retention_days=30, max_message_bytes=9 * MIB))
        topics.create(TopicSpec(name, partitions, 1, retention_days=7, max_message_bytes=8 * MIB))
        try:
            yield name
        finally:
            admin = AdminClient(connection)
            for deleted in admin.delete_topics([name, f"{name}.dlq"]).values():
                deleted.result()

    @contextmanager
    def installation(self, topic: str) -> Iterator[Installation]:
        """Empty tables and a new consumer group; both begin at the topic's first record."""
        settings = {"KAFKA__TOPIC": topic, "WORKER__SESSION_TIMEOUT_S": f"{SESSION_TIMEOUT_S:g}"}
        variables = {"PYTHONPATH": str(ROOT)}  # what lies beside this file is measured, not what is installed
        installation = Installation(self.servers, self.folder, settings=settings, variables=variables)
        installation.create_schema()
        migrate(installation.dsn, Deadline.after(START_TIMEOUT_S))
        self._execute(sql.SQL("CHECKPOINT"))  # else that of what was before falls into what comes
        try:
            yield installation
        finally:
            installation.close()
            self._execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(installation.name)))

    def _execute(self, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(self.postgres.dsn, autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def servers(folder: Path) -> Iterator[Place]:
    """Both with their defaults, except for the options that make the JVM start fast and run slowly."""
    kafka = EmbeddedKafka(folder / "kafka", jvm_options=FOR_BENCHMARKS)
    with EmbeddedPostgres(folder / "postgres") as postgres, kafka:
        yield Place(kafka, postgres, folder)
