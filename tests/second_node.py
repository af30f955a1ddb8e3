"""A second node of an embedded Kafka: a broker that holds partitions of its own and no vote."""

import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from processor.embedded.kafka import EmbeddedKafka
from processor.embedded.ports import LOOPBACK, free_port

NODE = 2


def second_node(first: EmbeddedKafka, state_dir: Path) -> EmbeddedKafka:
    """Not started. `first` runs."""
    port = free_port()
    roles = {
        "process.roles": "broker",
        "node.id": str(NODE),
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "controller.quorum.voters": _property(first.state_dir / "server.properties", "controller.quorum.voters"),
    }
    data = state_dir / "data"
    data.mkdir(parents=True)
    member = {
        "version": "1",
        "node.id": str(NODE),
        "cluster.id": _property(first.state_dir / "data" / "meta.properties", "cluster.id"),
        "directory.id": urlsafe_b64encode(b"\x01" + uuid.uuid4().bytes[1:]).decode().rstrip("="),
    }
    (data / "meta.properties").write_text("".join(f"{name}={value}\n" for name, value in member.items()))
    return EmbeddedKafka(state_dir, port=port, extra_properties=roles)


def _property(file: Path, name: str) -> str:
    (value,) = (line.partition("=")[2] for line in file.read_text().splitlines() if line.startswith(f"{name}="))
    return value
