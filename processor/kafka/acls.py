"""What Kafka must allow to each role, no more and no less: printed by `call-processor topics --acls`, and named by
whoever lacks it.

Read and Write on a topic include Describe. An idempotent producer needs nothing on the cluster, since Kafka 3.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from processor.config import Kafka
from processor.errors import ExitCode, Stop

TOPIC: Final = "topic"
GROUP: Final = "group"


@dataclass(frozen=True, slots=True)
class Acl:
    """To be allowed, from any host; resources and operations are spelled as `kafka-acls` spells them."""

    resource: str
    name: str
    operation: str

    def __str__(self) -> str:
        return f"{self.operation} on {self.resource} {self.name}"


def acls_by_role(kafka: Kafka) -> Mapping[str, tuple[Acl, ...]]:
    calls, letters = kafka.topic, kafka.dead_letters
    return {
        "ingest": (Acl(TOPIC, calls, "Write"),),
        "worker": (
            Acl(TOPIC, calls, "Read"),
            Acl(TOPIC, calls, "DescribeConfigs"),
            Acl(TOPIC, letters, "Write"),
            Acl(TOPIC, letters, "DescribeConfigs"),
            Acl(GROUP, kafka.group, "Read"),
        ),
        "topics": (Acl(TOPIC, calls, "Create"), Acl(TOPIC, letters, "Create")),
    }


def lacks(acl: Acl) -> Stop:
    return Stop(
        ExitCode.DEPENDENCY,
        f"this Kafka user lacks {acl}: `call-processor topics --acls` prints what each role needs",
    )
