"""Our OpenAPI document against the published contract: nothing of it is changed, and what is added is listed here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from processor.calls import CallEndReq, EndedCallSchemaForInsert, LLMUsageSchema, SummaryInsertMap, TraceStatus
from processor.limits import INT64_MAX, INT64_MIN, MAX_COUNT, MAX_MODELS, PROJECT_ID_BYTES
from processor.refusals import MAX_DETAILS

ROOT = Path(__file__).parents[2]
OURS = yaml.safe_load((ROOT / "schemas/openapi.yaml").read_text(encoding="utf-8"))
CONTRACT = yaml.safe_load((ROOT / "tests/contract/call_end.openapi.yaml").read_text(encoding="utf-8"))

POST = ("paths", "/call/end", "post")
SCHEMAS = ("components", "schemas")
END = (*SCHEMAS, "EndedCallSchemaForInsert")
COUNT = ("anyOf", 0)
ADDITIONS = {
    ("info", "description"),
    (*POST, "description"),
    (*POST, "security", 1),  # the key as a bearer token
    *((*POST, "responses", str(status)) for status in (401, 403, 405, 408, 413, 415, 429, 500, 503)),
    ("components", "securitySchemes", "HTTPBasic", "description"),
    ("components", "securitySchemes", "HTTPBearer"),
    (*SCHEMAS, "Refusal"),  # what those answers say
    (*SCHEMAS, "TooLarge"),
    (*SCHEMAS, "HTTPValidationError", "description"),
    (*SCHEMAS, "HTTPValidationError", "properties", "detail", "maxItems"),
    # limits
    (*END, "description"),
    (*END, "additionalProperties"),
    *((*END, "properties", "project_id", word) for word in ("description", "maxLength", "pattern")),
    *((*END, "properties", "id", word) for word in ("description", "minLength", "maxLength", "pattern")),
    *((*END, "properties", field, "description") for field in ("ended_at", "output", "wb_run_step_end")),
    *((*END, "properties", "wb_run_step_end", *COUNT, word) for word in ("minimum", "maximum")),
    *((*SCHEMAS, "SummaryInsertMap", "properties", "usage", word) for word in ("description", "maxProperties")),
    *(
        (*SCHEMAS, "SummaryInsertMap", "properties", "status_counts", "additionalProperties", word)
        for word in ("minimum", "maximum")
    ),
    *(
        (*SCHEMAS, "LLMUsageSchema", "properties", field, *COUNT, word)
        for field in LLMUsageSchema.model_fields
        for word in ("minimum", "maximum")
    ),
    # what the SDK sends besides
    *((*END, "properties", field) for field in ("trace_id", "started_at", "is_eval")),
}
CHANGED = {("info", "title")}

Place = tuple[str | int, ...]


def differences(contract: Any, ours: Any, place: Place = ()) -> Iterator[tuple[str, Place]]:
    """(what happened, where), from the contract's point of view."""
    if isinstance(contract, dict) and isinstance(ours, dict):
        yield from (("removed", (*place, key)) for key in contract.keys() - ours.keys())
        yield from (("added", (*place, key)) for key in ours.keys() - contract.keys())
        for key in contract.keys() & ours.keys():
            yield from differences(contract[key], ours[key], (*place, key))
    elif isinstance(contract, list) and isinstance(ours, list):
        yield from (("removed", (*place, index)) for index in range(len(ours), len(contract)))
        yield from (("added", (*place, index)) for index in range(len(contract), len(ours)))
        for index, (theirs, mine) in enumerate(zip(contract, ours, strict=False)):
            yield from differences(theirs, mine, (*place, index))
    elif contract != ours:
        yield "changed", place


def test_everything_of_the_contract_is_in_our_document_unchanged() -> None:
    found = {(what, place) for what, place in differences(CONTRACT, OURS) if what != "added"}
    assert found == {("changed", place) for place in CHANGED}


def test_the_additions_to_the_contract_are_the_listed_ones() -> None:
    assert {place for what, place in differences(CONTRACT, OURS) if what == "added"} == ADDITIONS


def test_the_comparison_sees_a_removal_a_change_and_an_addition() -> None:
    found = set(differences({"a": 1, "b": [1, 2], "c": {}}, {"b": [3], "c": {"d": 1}}))
    assert found == {("removed", ("a",)), ("removed", ("b", 1)), ("changed", ("b", 0)), ("added", ("c", "d"))}


def test_the_models_have_the_fields_of_the_document() -> None:
    schemas = OURS["components"]["schemas"]
    for model in (CallEndReq, EndedCallSchemaForInsert, SummaryInsertMap, LLMUsageSchema):
        schema = schemas[model.__name__]
        assert set(model.model_fields) == set(schema["properties"])
        assert {name for name, field in model.model_fields.items() if field.is_required()} == set(
            schema.get("required", ())
        )
        assert schema["additionalProperties"] is (model is not CallEndReq)
    assert schemas["TraceStatus"]["enum"] == list(TraceStatus)


def test_the_limits_of_the_document_are_those_of_the_code() -> None:
    schemas = OURS["components"]["schemas"]
    end, summary = schemas["EndedCallSchemaForInsert"]["properties"], schemas["SummaryInsertMap"]["properties"]
    assert end["project_id"]["maxLength"] == PROJECT_ID_BYTES[1]
    assert summary["usage"]["maxProperties"] == MAX_MODELS
    assert schemas["HTTPValidationError"]["properties"]["detail"]["maxItems"] == MAX_DETAILS
    counts = [summary["status_counts"]["additionalProperties"]]
    counts += [field["anyOf"][0] for field in schemas["LLMUsageSchema"]["properties"].values()]
    assert {(count["minimum"], count["maximum"]) for count in counts} == {(-MAX_COUNT, MAX_COUNT)}
    step = end["wb_run_step_end"]["anyOf"][0]
    assert (step["minimum"], step["maximum"]) == (INT64_MIN, INT64_MAX)
