"""The consumer group of an installation: what its members, Kafka and the checkpoints tell of it."""

import json
import re
from pathlib import Path
from typing import Final
from urllib.request import Request, urlopen

import psycopg
from confluent_kafka import Consumer, TopicPartition

from processor.metrics import PREFIX
from tests.stack import PARTITIONS, Installation, Process

PROTOCOLS: Final = ("classic", "consumer")  # values of group.protocol; "consumer" is KIP-848
SESSION_TIMEOUT_S: Final = 6.0  # of both: the installation's setting, the embedded broker's property
ANSWER_WITHIN_S: Final = 10.0
EVENT: Final = re.compile(r'"partitions (assigned|revoked|lost)"')


def member(folder: Path, protocol: str, name: str) -> dict[str, str]:
    """The setting with which a worker is a member of this name, under this protocol."""
    file = folder / f"{name}.properties"
    file.write_text(f"group.protocol={protocol}\nclient.id={name}\n")
    return {"KAFKA__PROPERTIES_FILE": str(file)}


def assigned(worker: Process) -> set[int]:
    """Which partitions the group has given to a worker that runs, as its log tells. (The broker could be asked, but an
    AdminClient that waited in vain for a group's coordinator can wait for ever in its destructor.)"""
    partitions: set[int] = set()
    if worker.pid is None:
        return partitions
    for line in worker.log.read_text(encoding="utf-8").splitlines():
        if found := EVENT.search(line):
            change = set(json.loads(line)["partitions"])
            partitions = partitions | change if found[1] == "assigned" else partitions - change
    return partitions


class Group:
    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    def committed(self) -> dict[int, int]:
        """The mirror: the offsets that Kafka has been told."""
        topic, servers = self._installation.topic, self._installation.servers.bootstrap_servers
        consumer = Consumer({"bootstrap.servers": servers, "group.id": self._installation.name})
        try:
            places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
            found = consumer.committed(places, timeout=ANSWER_WITHIN_S)
            return {place.partition: place.offset for place in found if place.offset >= 0}
        finally:
            consumer.close()

    def owners(self) -> dict[int, int]:
        """By partition, the process id of the session of PostgreSQL that has taken it."""
        with psycopg.connect(self._installation.dsn) as connection:
            return dict(connection.execute("SELECT partition, owner_pid FROM checkpoints").fetchall())


def metric(worker: Process, name: str) -> float:
    """A number of /metrics without labels, by its name without the prefix."""
    request = Request(f"http://{worker.admin}/metrics", headers={"Cache-Control": "no-cache"})
    with urlopen(request, timeout=ANSWER_WITHIN_S) as answer:  # noqa: S310  # http, to a process of ours
        lines = answer.read().decode().splitlines()
    (value,) = (line.split()[1] for line in lines if line.split()[0] == PREFIX + name)
    return float(value)
