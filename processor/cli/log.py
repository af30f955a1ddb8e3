"""Which log the settings mean, asked from the broker."""

from processor.config import Settings
from processor.kafka.properties import connection_properties
from processor.kafka.topics import Topic, Topics
from processor.sinks.base import LogIdentity


def topics_of(settings: Settings) -> Topics:
    return Topics(connection_properties(settings.kafka, settings.bootstrap_servers()))


def log_of(settings: Settings, topics: Topics) -> LogIdentity:
    """`Unavailable` if no broker answers, `Stop` if there is no such topic."""
    return identity(settings, topics.describe(settings.kafka.topic))


def identity(settings: Settings, topic: Topic) -> LogIdentity:
    return LogIdentity(topic.cluster_id, topic.topic_id, settings.kafka.topic, settings.kafka.group)
