"""The loop that one writes first: decode a record, look whether its call is new, add it up; a transaction each 1,000
records, then the offsets. It counts each call once as long as nothing fails at the wrong moment.

python naive_worker.py BROKERS TOPIC GROUP DSN SCHEMA_FILE
"""

import io
import sys
from typing import Any

import fastavro
import psycopg
from confluent_kafka import Consumer

HEADER_BYTES = 10
BATCH = 1000

brokers, topic, group, dsn, schema_file = sys.argv[1:]
schema = fastavro.schema.load_schema(schema_file)
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
connection = psycopg.connect(dsn)
connection.execute("CREATE TABLE naive_seen (project_id text, id text, PRIMARY KEY (project_id, id))")
connection.execute(
    "CREATE TABLE naive_usage (project_id text, hour timestamptz, model text, calls bigint, prompt_tokens numeric,"
    " completion_tokens numeric, PRIMARY KEY (project_id, hour, model))"
)
connection.commit()

while True:
    records = consumer.consume(BATCH, 0.19)
    if not records:
        continue
    totals: dict[tuple[str, object, str], list[int]] = {}
    with connection.transaction(), connection.cursor() as cursor:
        for record in records:
            body: Any = fastavro.schemaless_reader(io.BytesIO((record.value() or b"")[HEADER_BYTES:]), schema)
            call = body["end"]
            cursor.execute(
                "INSERT INTO naive_seen VALUES (%s, %s) ON CONFLICT DO NOTHING", (call["project_id"], call["id"])
            )
            if not cursor.rowcount:
                continue
            hour = call["ended_at"].replace(minute=0, second=0, microsecond=0)
            for model, usage in call["summary"]["usage"].items():
                total = totals.setdefault((call["project_id"], hour, model), [0, 0, 0])
                total[0] += 1
                total[1] += usage["prompt_tokens"] or 0
                total[2] += usage["completion_tokens"] or 0
        cursor.executemany(
            "INSERT INTO naive_usage AS t VALUES (%s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (project_id, hour, model) DO UPDATE"
            " SET calls = t.calls + excluded.calls, prompt_tokens = t.prompt_tokens + excluded.prompt_tokens,"
            " completion_tokens = t.completion_tokens + excluded.completion_tokens",
            [(*key, *total) for key, total in totals.items()],
        )
    consumer.commit(asynchronous=False)
