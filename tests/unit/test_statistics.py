"""What librdkafka's statistics come to: those of a real client, and those of one that talks to brokers."""

import json

from prometheus_client import CollectorRegistry

from processor.kafka.producer import Producer
from processor.kafka.statistics import Statistics, parse
from processor.metrics import ProcessMetrics
from tests.stack import wait_until


def broker(nodeid: int, state: str, p99_us: int = 0, disconnects: int = 0, timeouts: int = 0) -> dict[str, object]:
    round_trips = {"p99": p99_us}
    return {"nodeid": nodeid, "state": state, "rtt": round_trips, "disconnects": disconnects, "req_timeouts": timeouts}


def test_brokers_are_counted_once_and_the_slowest_one_is_told() -> None:
    brokers = {
        "seed:9092/bootstrap": broker(-1, "UP", 900),
        "a:9092/1": broker(1, "UP", 1500, 2, 1),
        "b:9092/2": broker(2, "DOWN", 0, 3),
        "GroupCoordinator": broker(1, "UP", 7000),
    }
    assert parse(json.dumps({"brokers": brokers})) == Statistics(1, 0.007, 5, 1)


def test_a_real_client_tells_them() -> None:
    told: list[Statistics] = []
    properties = {"bootstrap.servers": "127.0.0.1:1", "message.max.bytes": 1000000, "batch.size": 1000000}
    producer = Producer({**properties, "statistics.interval.ms": "50"}, on_statistics=told.append)
    try:
        wait_until(lambda: told, within_s=10, what="statistics are told")
    finally:
        producer.close(0)
    assert told[0].brokers_connected == 0


def test_counts_go_on_where_a_client_was_built_anew() -> None:
    registry = CollectorRegistry()
    metrics = ProcessMetrics(registry, "ingest", "2.0.0", 0)
    for disconnects in (2, 5, 1):
        metrics.kafka(Statistics(1, 0.001, disconnects, 0))
    assert registry.get_sample_value("call_processor_kafka_disconnects_total") == 6
