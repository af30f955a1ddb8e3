"""Whatever a client makes of our OpenAPI document, the door answers what that document says."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import schemathesis
import yaml
from hypothesis import HealthCheck, given, settings
from prometheus_client import CollectorRegistry
from schemathesis.generation import GenerationMode

from processor.codec.rows import decode
from processor.config import Ingest
from processor.ingest.app import Door
from processor.ingest.memory import MemoryPublisher
from processor.metrics import IngestMetrics
from tests.asgi import Response, post

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DOCUMENT = yaml.safe_load((Path(__file__).parents[2] / "schemas/openapi.yaml").read_text(encoding="utf-8"))
DOCUMENTED = {int(status) for status in DOCUMENT["paths"]["/call/end"]["post"]["responses"]}
CALL_END = schemathesis.openapi.from_dict(DOCUMENT)["/call/end"]["POST"]
QUICK = settings(
    max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def answers(content: Any) -> tuple[Response, list[tuple[bytes, bytes]]]:
    """To this body as JSON, and what was published."""
    memory = MemoryPublisher()
    door = Door(memory, Ingest(), IngestMetrics(CollectorRegistry()), horizon_days=35, now=lambda: NOW)
    return asyncio.run(post(door, json.dumps(content).encode())), memory.records


@QUICK
@given(case=CALL_END.as_strategy(generation_mode=GenerationMode.POSITIVE))
def test_what_the_document_allows_is_taken_or_named_as_outside_a_limit(case: "schemathesis.Case[Any]") -> None:
    content: Any = case.body
    content["end"]["ended_at"] = NOW.isoformat()  # else nearly all would be outside the horizon
    answered, records = answers(content)
    assert answered.status in {200, 422}
    assert len(records) == (answered.status == 200)
    for key, value in records:
        assert decode(value).end.project_id.encode() == key
    if answered.status == 422:
        assert all(entry["loc"][0] == "body" for entry in answered.json()["detail"])


@QUICK
@given(case=CALL_END.as_strategy(generation_mode=GenerationMode.NEGATIVE))
def test_what_the_document_forbids_is_answered_as_it_says(case: "schemathesis.Case[Any]") -> None:
    answered, records = answers(case.body if isinstance(case.body, dict | list | str | int | float | bool) else None)
    assert answered.status in DOCUMENTED - {500}
    assert len(records) == (answered.status == 200)
