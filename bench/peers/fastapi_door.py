"""What one writes first with FastAPI: a model, a producer, a delivery report for each request before it is answered.

python fastapi_door.py HOST PORT BROKERS TOPIC
"""

import asyncio
import sys
import threading
from typing import Any

import uvicorn
from confluent_kafka import Producer
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

host, port, brokers, topic = sys.argv[1:]
producer = Producer(
    {"bootstrap.servers": brokers, "acks": "all", "enable.idempotence": True, "compression.type": "lz4", "linger.ms": 1}
)
app = FastAPI()


class End(BaseModel):
    project_id: str
    id: str
    ended_at: str
    exception: str | None = None
    output: Any = None
    summary: dict[str, Any]


class CallEndReq(BaseModel):
    end: End


def poll() -> None:
    while True:
        producer.poll(0.1)


async def call_end(request: CallEndReq) -> dict[str, str]:
    loop = asyncio.get_running_loop()
    acknowledged: asyncio.Future[object] = loop.create_future()

    def delivered(error: object, _record: object) -> None:
        loop.call_soon_threadsafe(acknowledged.set_result, error)

    value = request.model_dump_json().encode()
    producer.produce(topic, value, request.end.project_id.encode(), on_delivery=delivered)
    if await acknowledged is not None:
        raise HTTPException(503)
    return {}


app.add_api_route("/call/end", call_end, methods=["POST"])
threading.Thread(target=poll, daemon=True).start()
uvicorn.run(app, host=host, port=int(port), log_config=None, access_log=False)
