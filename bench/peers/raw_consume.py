"""Reads records and does nothing with them: what no consumer in Python can beat.

python raw_consume.py BROKERS TOPIC GROUP
"""

import sys

from confluent_kafka import Consumer

brokers, topic, group = sys.argv[1:]
consumer = Consumer(
    {
        "bootstrap.servers": brokers,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "fetch.queue.backoff.ms": 10,
    }
)
consumer.subscribe([topic])
while True:
    if consumer.consume(20_000, 0.19):
        consumer.commit(asynchronous=True)
