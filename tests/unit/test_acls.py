"""What each role may do in Kafka."""

from processor.config import Kafka
from processor.kafka.acls import acls_by_role


def test_acls_name_the_topics_and_the_group_that_are_set() -> None:
    named = acls_by_role(Kafka(topic="calls", dead_letter_topic="letters", group="counters"))
    assert {role: [str(acl) for acl in acls] for role, acls in named.items()} == {
        "ingest": ["Write on topic calls"],
        "worker": [
            "Read on topic calls",
            "DescribeConfigs on topic calls",
            "Write on topic letters",
            "DescribeConfigs on topic letters",
            "Read on group counters",
        ],
        "topics": ["Create on topic calls", "Create on topic letters"],
    }
