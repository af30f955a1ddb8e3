"""`STACK=containers`: the servers of a test run as containers, for whoever wants to see other versions of them.

KAFKA_IMAGE takes an image of Apache Kafka with that project's way of being configured, POSTGRES_IMAGE one with that of
the official image. Tests that break their servers start their own and stay with the embedded ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from os import environ
from pathlib import PurePosixPath
from typing import Final

from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from processor.embedded import kafka
from processor.embedded.jars import KAFKA_VERSION
from processor.embedded.ports import LOOPBACK, free_port
from tests.stack import Servers

KAFKA_IMAGE: Final = environ.get("KAFKA_IMAGE", f"apache/kafka:{KAFKA_VERSION}")
POSTGRES_IMAGE: Final = environ.get("POSTGRES_IMAGE", "postgres:18")
CLIENTS_PORT: Final = 9092  # in the container
CONTROLLER_PORT: Final = 9093
START_TIMEOUT_S: Final = 120


@contextmanager
def container_servers() -> Iterator[Servers]:
    port = free_port()
    broker = (
        DockerContainer(KAFKA_IMAGE)
        .with_bind_ports(CLIENTS_PORT, port)
        .with_envs(**_environment(port))
        .waiting_for(LogMessageWaitStrategy(kafka.READY).with_startup_timeout(START_TIMEOUT_S))
    )
    # As the embedded one: whoever reaches it is trusted, and nothing is kept.
    database = (
        PostgresContainer(POSTGRES_IMAGE, username="postgres", dbname="postgres")
        .with_env("POSTGRES_HOST_AUTH_METHOD", "trust")
        .with_command("-c max_connections=200 -c fsync=off")
    )
    with database, broker:
        where = f"{database.get_container_host_ip()}:{database.get_exposed_port(database.port)}"
        yield Servers(f"{LOOPBACK}:{port}", f"postgresql://postgres@{where}/postgres")


def _environment(port: int) -> dict[str, str]:
    """The properties of the embedded server, as the image wants them; clients reach it at this port of ours."""
    properties = kafka.properties(
        PurePosixPath("/var/lib/kafka/data"),
        CLIENTS_PORT,
        CONTROLLER_PORT,
        {
            "listeners": f"PLAINTEXT://0.0.0.0:{CLIENTS_PORT},CONTROLLER://{LOOPBACK}:{CONTROLLER_PORT}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        },
    )
    return {f"KAFKA_{name.replace('.', '_').upper()}": value for name, value in properties.items()}
