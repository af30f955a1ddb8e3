"""What the consumer says of its brokers."""

from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from processor.kafka.consumer import SAME_ERROR_EVERY_S, ErrorLog


def test_a_broker_that_is_away_gets_a_line_now_and_then_and_not_one_for_every_failed_connect() -> None:
    now_s = 1000.0
    errors = ErrorLog(lambda: now_s)
    with capture_logs() as lines:
        for _ in range(100):
            errors(KafkaError(KafkaError._TRANSPORT, "connect refused"))
            errors(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
        now_s += SAME_ERROR_EVERY_S
        errors(KafkaError(KafkaError._TRANSPORT, "connect refused"))
    assert [line["error"] for line in lines] == ["_TRANSPORT", "_ALL_BROKERS_DOWN", "_TRANSPORT"]
    assert lines[0]["detail"] == "connect refused"
