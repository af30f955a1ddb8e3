"""Whether the topics are as they must be: at start, before anything is counted."""

from collections.abc import Iterator, Mapping
from typing import Final

from processor.errors import ExitCode, Stop
from processor.kafka.topics import DAY_MS, MIB, TopicState

SOURCE_RETENTION_DAYS: Final = 7
DEAD_LETTER_RETENTION_DAYS: Final = 30
REPLICAS: Final = 3
IN_SYNC: Final = 2


def check_topics(calls: TopicState, dead_letters: TopicState) -> list[str]:
    """Sentences to warn with; `Stop` (exit code 4) for what would make a number wrong."""
    for name, topic in ((calls.name, calls), (dead_letters.name, dead_letters)):
        if "compact" in topic.config["cleanup.policy"]:
            raise _stop(f"topic {name} is compacted: records vanish before they are read; set cleanup.policy=delete")
    if calls.config["message.timestamp.type"] != "LogAppendTime":
        raise _stop(
            f"topic {calls.name} takes the time of a record from its producer, and the dedupe horizon is measured "
            "against it: set message.timestamp.type=LogAppendTime"
        )
    source, target = (int(topic.config["max.message.bytes"]) for topic in (calls, dead_letters))
    if target < source + MIB:
        raise _stop(
            f"topic {dead_letters.name} takes records of {target} bytes, less than 1 MiB more than the {source} of "
            f"{calls.name}, so a rejected record may not fit: set max.message.bytes={source + MIB}"
        )
    return [*_warnings(calls, SOURCE_RETENTION_DAYS), *_warnings(dead_letters, DEAD_LETTER_RETENTION_DAYS)]


def _warnings(topic: TopicState, retention_days: int) -> Iterator[str]:
    if topic.replication_factor < min(REPLICAS, topic.brokers):  # one broker is a choice that needs no reminder
        yield f"topic {topic.name} keeps {topic.replication_factor} copies of a record: {REPLICAS} outlive a broker"
    if topic.replication_factor > 1 and int(topic.config["min.insync.replicas"]) < IN_SYNC:
        yield f"topic {topic.name} acknowledges a record with one copy of it: set min.insync.replicas={IN_SYNC}"
    retention_ms = int(topic.config["retention.ms"])
    if 0 <= retention_ms < retention_days * DAY_MS:
        yield f"topic {topic.name} keeps records for less than {retention_days} days: set retention.ms"
    if _has_size_limit(topic.config):
        yield f"topic {topic.name} deletes records by size, counted or not: set retention.bytes=-1"


def _has_size_limit(config: Mapping[str, str]) -> bool:
    return int(config["retention.bytes"]) >= 0


def _stop(sentence: str) -> Stop:
    return Stop(ExitCode.PROTECT_NUMBERS, sentence)
