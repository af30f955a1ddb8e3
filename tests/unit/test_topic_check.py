import re

import pytest

from processor.errors import ExitCode, Stop
from processor.kafka.check import check_topics
from processor.kafka.topics import TopicSpec, TopicState

MIB = 2**20


def state(name: str, *, replicas: int = 3, brokers: int = 3, **config: str) -> TopicState:
    """As `call-processor topics` makes it, but for `config`."""
    spec = TopicSpec(name, 12, replicas, 30, 9 * MIB if name.endswith("dlq") else 8 * MIB)
    changed = {key.replace("_", "."): value for key, value in config.items()}
    return TopicState(name, brokers, replicas, {"retention.bytes": "-1", **spec.config(), **changed})


def test_the_topics_that_we_make_are_as_they_must_be() -> None:
    assert check_topics(state("calls"), state("calls.dlq")) == []


@pytest.mark.parametrize(
    ("calls", "dead_letters", "sentence"),
    [
        (state("calls", cleanup_policy="compact"), state("calls.dlq"), "topic calls is compacted"),
        (state("calls", cleanup_policy="compact,delete"), state("calls.dlq"), "topic calls is compacted"),
        (state("calls"), state("calls.dlq", cleanup_policy="compact"), "topic calls.dlq is compacted"),
        (state("calls", message_timestamp_type="CreateTime"), state("calls.dlq"), "=LogAppendTime"),
        (state("calls"), state("calls.dlq", max_message_bytes=str(9 * MIB - 1)), f"max.message.bytes={9 * MIB}"),
    ],
)
def test_what_would_make_a_number_wrong_is_refused(calls: TopicState, dead_letters: TopicState, sentence: str) -> None:
    with pytest.raises(Stop, match=re.escape(sentence)) as stopped:
        check_topics(calls, dead_letters)
    assert stopped.value.exit_code is ExitCode.PROTECT_NUMBERS


@pytest.mark.parametrize(
    ("calls", "sentence"),
    [
        (state("calls", replicas=1), "keeps 1 copies"),
        (state("calls", min_insync_replicas="1"), "min.insync.replicas=2"),
        (state("calls", retention_ms="3600000"), "less than 7 days"),
        (state("calls", retention_bytes="1000000"), "retention.bytes=-1"),
    ],
)
def test_what_may_lose_records_one_day_is_warned_of(calls: TopicState, sentence: str) -> None:
    (warning,) = check_topics(calls, state("calls.dlq"))
    assert sentence in warning


def test_no_limit_on_retention_is_no_problem() -> None:
    assert check_topics(state("calls", retention_ms="-1"), state("calls.dlq")) == []


def test_one_broker_keeps_one_copy_and_needs_no_reminder() -> None:
    assert check_topics(state("calls", replicas=1, brokers=1), state("calls.dlq", replicas=1, brokers=1)) == []
