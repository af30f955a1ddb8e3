"""Quix Streams, exactly once: ids and totals in its state, totals to a topic.

python quix_worker.py BROKERS TOPIC GROUP STATE_DIR SCHEMA_FILE
"""

import io
import sys
from typing import Any

import fastavro
from quixstreams import Application, State

HEADER_BYTES = 10

brokers, topic, group, state_dir, schema_file = sys.argv[1:]
schema = fastavro.schema.load_schema(schema_file)
app = Application(
    broker_address=brokers,
    consumer_group=group,
    auto_offset_reset="earliest",
    processing_guarantee="exactly-once",
    commit_interval=1.0,
    state_dir=state_dir,
    topic_create_timeout=60,
)


def count(value: bytes, state: State) -> dict[str, Any] | None:
    body: Any = fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), schema)
    call = body["end"]
    if state.exists("id " + call["id"]):
        return None
    state.set("id " + call["id"], 1)
    hour = call["ended_at"].replace(minute=0, second=0, microsecond=0).isoformat()
    totals = {}
    for model, usage in call["summary"]["usage"].items():
        key = f"{hour} {model}"
        calls, prompt, completion = state.get(key, [0, 0, 0])
        totals[key] = [
            calls + 1,
            prompt + (usage["prompt_tokens"] or 0),
            completion + (usage["completion_tokens"] or 0),
        ]
        state.set(key, totals[key])
    return totals


calls = app.topic(topic, value_deserializer="bytes")
totals_topic = app.topic(f"{group}.totals", value_serializer="json")
frame = app.dataframe(calls)
frame = frame.apply(count, stateful=True).filter(lambda totals: totals is not None)
frame.to_topic(totals_topic)
app.run()
