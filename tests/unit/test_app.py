"""The door, with a publisher in memory: every row of its table of answers, every trap that concerns it."""

import asyncio
import base64
import gzip
import json
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from random import Random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from processor.codec.rows import decode
from processor.config import Ingest, Log
from processor.errors import TooLarge, Unavailable
from processor.ingest import answers
from processor.ingest.app import Door
from processor.ingest.auth import Credentials, Keys, RateLimit
from processor.ingest.body import MIB, Intake
from processor.ingest.key_file import Key
from processor.ingest.memory import MemoryPublisher
from processor.ingest.publisher import Publisher
from processor.logs import configure
from processor.metrics import ANSWERS, IngestMetrics
from processor.sample.bad_bodies import bad_bodies
from tests.asgi import DISCONNECT, JSON, Client, Response, chunks, exchange, post, scope
from tests.documents import ROOT

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HORIZON_DAYS = 35


def body(**end: Any) -> bytes:
    call = {"project_id": "acme/chat", "id": "call-1", "ended_at": NOW.isoformat(), "summary": {}}
    return json.dumps({"end": call | end}).encode()


GOOD = body()


class Bench:
    """The real door on a publisher in memory."""

    def __init__(
        self,
        publisher: Publisher | None = None,
        *,
        intake: Intake | None = None,
        credentials: Credentials | None = None,
        **ingest: Any,
    ) -> None:
        self.memory = MemoryPublisher()
        self.registry = CollectorRegistry()
        self.settings = Ingest(**ingest)
        self.door = Door(
            publisher or self.memory,
            self.settings,
            IngestMetrics(self.registry),
            horizon_days=HORIZON_DAYS,
            credentials=credentials,
            now=lambda: NOW,
            intake=intake,
        )

    def post(self, content: bytes = GOOD, **request: Any) -> Response:
        return asyncio.run(post(self.door, content, **request))

    def exchange(self, request: dict[str, Any], *messages: dict[str, Any]) -> Response | None:
        return asyncio.run(exchange(self.door, request, messages))

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"call_processor_{name}", labels)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # the door knows no event to wait for
            await asyncio.sleep(0)


# --- accepted


def test_a_valid_call_is_answered_with_an_empty_object_and_published_under_its_project() -> None:
    bench = Bench()
    answered = bench.post(body(project_id="acmé/chat"))
    assert (answered.status, answered.body) == (200, b"{}")
    assert answered.headers["content-type"] == "application/json"
    [(key, value)] = bench.memory.records
    assert key == "acmé/chat".encode()
    assert decode(value).end.project_id == "acmé/chat"


def test_t26_nothing_is_answered_before_the_acknowledgement() -> None:
    bench = Bench()

    async def story() -> None:
        client = Client(chunks(GOOD), [])
        bench.memory.acknowledging.clear()
        request = asyncio.create_task(bench.door(scope(length=len(GOOD)), client.receive, client.send))
        await until(lambda: bench.memory.records)
        for _ in range(100):
            await asyncio.sleep(0)
        assert client.sent == []
        bench.memory.acknowledging.set()
        await request
        assert client.response() is not None

    asyncio.run(story())


def test_a_body_in_pieces_is_one_body() -> None:
    bench = Bench()
    answered = bench.exchange(scope(), *chunks(GOOD[:7], b"", GOOD[7:20], GOOD[20:], b""))
    assert answered is not None
    assert answered.status == 200
    assert decode(bench.memory.records[0][1]).end.id == "call-1"


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/vnd.weave.v1+json"],
)
def test_every_spelling_of_json_is_taken(content_type: str) -> None:
    assert Bench().post(headers=[("content-type", content_type), ("content-encoding", "identity")]).status == 200


def test_t11_lax_integers_are_taken_as_the_original_server_takes_them() -> None:
    bench = Bench()
    usage = {"m": {"prompt_tokens": "5", "completion_tokens": 5.0, "requests": True}}
    assert bench.post(body(summary={"usage": usage})).status == 200
    stored = decode(bench.memory.records[0][1]).end.summary.usage["m"]
    assert (stored.prompt_tokens, stored.completion_tokens, stored.requests) == (5, 5, 1)


def test_t13_negative_counts_are_taken_and_counted_in_a_metric() -> None:
    bench = Bench()
    assert bench.post(body(summary={"usage": {"m": {"prompt_tokens": -5}}})).status == 200
    assert bench.post(body(summary={"usage": {"m": {"prompt_tokens": 5}}})).status == 200
    assert bench.metric("negative_counts_total") == 1


def test_t21_naive_timestamps_are_utc() -> None:
    bench = Bench()
    bench.post(body(ended_at="2026-11-23T11:00:00.000001"))
    assert decode(bench.memory.records[0][1]).end.ended_at == datetime(2026, 11, 23, 11, 0, 0, 1, tzinfo=UTC)


def test_without_keep_output_everything_else_is_published() -> None:
    bench = Bench(keep_output=False)
    assert bench.post(body(output={"secret": 1}, more="kept")).status == 200
    end = decode(bench.memory.records[0][1]).end
    assert (end.output, end.__pydantic_extra__) == (None, {"more": "kept"})


def test_what_is_to_be_fetched_from_the_root_says_what_this_is() -> None:
    for method in ("GET", "HEAD"):
        answered = Bench().exchange(scope(method, "/", headers=()), *chunks(b""))
        assert answered is not None
        assert answered.status == 200
        assert "LLM calls" in answered.json()["about"]


# --- refused for good


@pytest.mark.parametrize(("content", "headers", "status"), list(bad_bodies(NOW)))
def test_every_bad_request_of_the_sample_is_refused(content: bytes, headers: Any, status: int) -> None:
    bench = Bench()
    assert bench.post(content, headers=headers).status == status
    assert bench.memory.records == []


def test_a_refused_body_is_described_in_one_shape_and_never_echoed() -> None:
    for content, headers, status in bad_bodies(NOW):
        if status == 422:
            detail = Bench().post(content, headers=headers).json()["detail"]
            assert 1 <= len(detail) <= 20
            assert all(set(entry) == {"loc", "msg", "type"} and entry["loc"][0] == "body" for entry in detail)
    answered = Bench().post(body(id=None, exception=5, hunter2="x", summary={"usage": {"hunter2": {"requests": "x"}}}))
    assert answered.status == 422
    assert b"hunter2" not in answered.body


def test_t10_t12_t17_t18_hostile_values_are_422_and_never_500() -> None:
    usage = b'{"usage": {"m": %b}}'
    hostile = [b"null", b'{"requests": 1e400}', b'{"requests": 1000000000001}', b'{"x": NaN}', b'{"x": "\\ud800"}']
    hostile += [b'{"\\u0000": 1}', b'{"x": ' + b"[" * 200 + b"]" * 200 + b"}", b'{"x": ' + b"9" * 5000 + b"}"]
    for value in hostile:
        content = body().replace(b'"summary": {}', b'"summary": ' + usage % value)
        assert Bench().post(content).status == 422, value


def test_a_body_that_announces_too_much_is_refused_before_it_is_read() -> None:
    bench = Bench()
    client = Client([], [])
    announced = scope(length=bench.settings.max_body_bytes + 1)

    async def story() -> None:
        request = asyncio.create_task(bench.door(announced, client.receive, client.send))
        await until(lambda: len(client.sent) == 2)
        bench.door.close()  # else it would listen for a while whether the client sends on
        await request

    asyncio.run(story())
    answered = client.response()
    assert answered is not None
    assert (answered.status, answered.json()["limit_bytes"]) == (413, bench.settings.max_body_bytes)
    assert answered.headers["connection"] == "close"


def test_a_body_that_announces_nothing_is_refused_where_it_becomes_too_large() -> None:
    bench = Bench(max_body_bytes=2000)
    piece = b" " * 1000
    client = Client(chunks(*[piece] * 5), [])
    asyncio.run(bench.door(scope(headers=[*JSON, ("transfer-encoding", "chunked")]), client.receive, client.send))
    answered = client.response()
    assert answered is not None
    assert (answered.status, answered.headers["connection"]) == (413, "close")
    assert client.received == 5, "the rest is received and dropped, so that the client comes to see the answer"


def test_a_body_of_exactly_the_limit_is_read() -> None:
    bench = Bench(max_body_bytes=2000)
    assert bench.post(GOOD.ljust(2000)).status == 200
    assert bench.post(GOOD.ljust(2001)).status == 413


def test_a_record_beyond_the_topics_limit_is_refused_before_it_is_produced() -> None:
    bench = Bench(max_record_bytes=3000)
    answered = bench.post(body(output="x" * 3000))
    assert (answered.status, answered.json()["limit_bytes"]) == (413, 3000)
    assert bench.memory.records == []


def test_a_record_that_the_broker_finds_too_large_is_413() -> None:
    assert Bench(MemoryPublisher({0: TooLarge("the record", 100)})).post().status == 413


@pytest.mark.parametrize("headers", [(), (("content-type", "text/plain"),), (("content-type", "json"),)])
def test_a_body_that_does_not_say_that_it_is_json_is_415(headers: Any) -> None:
    assert Bench().post(headers=headers).status == 415


@pytest.mark.parametrize("encodings", [["br"], ["deflate"], ["gzip, gzip"], ["gzip", "gzip"]])
def test_an_unknown_encoding_is_415_and_the_answer_names_the_known_ones(encodings: list[str]) -> None:
    answered = Bench().post(headers=[*JSON, *(("content-encoding", encoding) for encoding in encodings)])
    assert (answered.status, answered.headers["accept-encoding"]) == (415, "gzip, identity")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_405_and_told_what_is_allowed(method: str) -> None:
    answered = Bench().exchange(scope(method, headers=()), *chunks(b""))
    assert answered is not None
    assert (answered.status, answered.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["/call/end/", "/call/start", "/metrics", "", "/../call/end"])
def test_other_paths_are_404_in_json(path: str) -> None:
    answered = Bench().post(path=path)
    assert answered.status == 404
    assert "POST /call/end" in answered.json()["detail"]


# --- compressed

GZIP = [*JSON, ("content-encoding", "gzip")]


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " x-gzip "])
def test_a_gzip_body_is_the_call_in_it(encoding: str) -> None:
    bench = Bench()
    assert bench.post(gzip.compress(GOOD), headers=[*JSON, ("content-encoding", encoding)]).status == 200
    assert decode(bench.memory.records[0][1]).end.id == "call-1"


def test_the_limit_of_a_body_holds_for_what_it_inflates_to() -> None:
    bench = Bench(max_body_bytes=2000)
    assert bench.post(gzip.compress(GOOD.ljust(2000)), headers=GZIP).status == 200
    answered = bench.post(gzip.compress(GOOD.ljust(2001)), headers=GZIP)
    assert (answered.status, answered.json()["limit_bytes"]) == (413, 2000)


@pytest.mark.parametrize("content", [b"", GOOD, gzip.compress(GOOD)[:-1], gzip.compress(GOOD) + b"hunter2"])
def test_what_is_not_gzip_although_it_says_so_is_422(content: bytes) -> None:
    answered = Bench().post(content, headers=GZIP)
    assert answered.status == 422
    [detail] = answered.json()["detail"]
    assert (detail["loc"], detail["type"]) == (["body"], "gzip_invalid")
    assert b"hunter2" not in answered.body


def test_a_gzip_body_of_the_limit_is_taken_when_it_is_alone_in_the_smallest_budget() -> None:
    bench = Bench(max_body_bytes=100_000, max_in_flight_bytes=400_000)
    noise = body(output=Random(1).randbytes(49_000).hex())
    assert bench.post(gzip.compress(noise.ljust(99_900), 0), headers=GZIP).status == 200


def test_a_refused_body_is_not_in_flight_while_the_rest_of_it_arrives() -> None:
    bench = Bench(max_in_flight_requests=1)

    async def story() -> None:
        client = Client([{"type": "http.request", "body": b"{", "more_body": True}], [])
        refused = scope(headers=[("content-type", "text/plain")], length=1000)
        lingering = asyncio.create_task(bench.door(refused, client.receive, client.send))
        await until(lambda: client.received)
        assert (bench.metric("in_flight_requests"), bench.metric("in_flight_bytes")) == (0, 0)
        assert (await post(bench.door, GOOD)).status == 200
        lingering.cancel()

    asyncio.run(story())


def test_inflated_bytes_are_in_flight_too() -> None:
    content = gzip.compress(GOOD.ljust(100_000))
    bench = Bench(intake=Intake(8 * MIB, budget_bytes=150_000))
    answered = bench.post(content, headers=GZIP)
    assert answered.status == 503, "as it counts double while it grows, to let smaller ones through"
    assert bench.post(content, headers=GZIP).status == 503
    assert bench.metric("in_flight_bytes") == 0
    assert bench.post().status == 200


# --- credentials

SECRET = "a key of thirty-two characters, ü"
OTHER = "another key, of the same file ..."
FIVE_KEYS = Keys(
    [
        Key("chat", sha256(SECRET.encode()).digest(), ("acme/chat",)),
        Key("other", sha256(OTHER.encode()).digest(), ("other/*",), NOW + timedelta(hours=1)),
        Key("expired", sha256(b"expired").digest(), ("*/*",), NOW),
        *(Key(f"more {i}", sha256(b"more %d" % i).digest(), ("*/*",)) for i in range(2)),
    ]
)


def basic(key: str, user: str = "api") -> list[tuple[str, str]]:
    return [*JSON, ("authorization", "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode())]


def guarded(keys: Keys | None = FIVE_KEYS, rate: RateLimit | None = None) -> Bench:
    return Bench(credentials=Credentials(lambda: keys, now=lambda: NOW, rate=rate))


def test_a_key_opens_the_door_to_its_projects_and_to_no_other() -> None:
    bench = guarded()
    assert bench.post(headers=basic(SECRET)).status == 200
    assert bench.post(headers=[*JSON, ("authorization", f"Bearer {SECRET}")]).status == 200
    assert bench.post(body(project_id="other/any"), headers=basic(OTHER)).status == 200
    refused = bench.post(headers=basic(OTHER))
    assert (refused.status, len(bench.memory.records)) == (403, 3)
    assert b"acme" not in refused.body


@pytest.mark.parametrize(
    "authorization",
    [[], ["Basic"], ["Basic !!!"], ["Bearer"], [f"Digest {SECRET}"], ["Bearer wrong"], ["Bearer expired"],
     [basic(SECRET, "root")[-1][1]], [basic("wrong")[-1][1]], [basic("")[-1][1]], [f"Bearer {SECRET}"] * 2],
)  # fmt: skip
def test_without_a_valid_key_it_is_401_before_anything_of_the_body_is_read(authorization: list[str]) -> None:
    bench = guarded()
    client = Client(chunks(GOOD, b""), [])
    headers = [("content-type", "text/plain"), *(("authorization", value) for value in authorization)]
    request = scope(headers=headers)

    async def story() -> None:
        await bench.door(request, client.receive, client.send)

    asyncio.run(story())
    answered = client.response()
    assert answered is not None
    assert answered.status == 401, "and not 415: credentials come first"
    assert answered.headers["www-authenticate"].startswith("Basic ")
    assert (client.received, bench.memory.records) == (0, [])


def test_a_wrong_body_is_422_before_the_project_is_looked_at_and_a_project_of_others_is_403() -> None:
    bench = guarded()
    assert bench.post(b"{", headers=basic(OTHER)).status == 422
    assert bench.post(body(project_id="no-slash"), headers=basic(OTHER)).status == 422
    assert bench.post(body(), headers=basic(OTHER)).status == 403


def test_while_no_keys_could_be_read_it_is_503_and_never_401() -> None:
    answered = guarded(keys=None).post(headers=basic(SECRET))
    assert (answered.status, answered.headers["retry-after"]) == (503, "5")


def test_more_than_a_key_may_send_is_429_with_the_time_to_wait_and_other_keys_go_on() -> None:
    clock = FakeClock()
    bench = guarded(rate=RateLimit(2, clock))
    assert [bench.post(headers=basic(SECRET)).status for _ in range(3)] == [200, 200, 429]
    refused = bench.post(headers=basic(SECRET))
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert bench.post(body(project_id="other/any"), headers=basic(OTHER)).status == 200
    clock.now_s += 0.5
    assert [bench.post(headers=basic(SECRET)).status for _ in range(2)] == [200, 429]


class FakeClock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


# --- refused for now


@pytest.mark.parametrize(("asked", "told"), [(-3, 1), (0, 1), (7, 7), (3600, 60)])
def test_unavailable_is_503_with_a_retry_after_that_clients_honour(asked: int, told: int) -> None:
    answered = Bench(MemoryPublisher({0: Unavailable("kafka-1.internal:9092 is down", asked)})).post()
    assert (answered.status, answered.headers["retry-after"]) == (503, str(told))
    assert b"internal" not in answered.body


def test_an_invalid_call_is_422_even_while_nothing_can_be_published() -> None:
    assert Bench(MemoryPublisher({0: Unavailable("away")})).post(b"{}").status == 422


def test_bytes_in_flight_beyond_the_budget_are_503_until_others_are_answered() -> None:
    bench = Bench(intake=Intake(8 * MIB, budget_bytes=2 * len(GOOD)))

    async def story() -> None:
        bench.memory.acknowledging.clear()
        first = asyncio.create_task(post(bench.door, GOOD))
        await until(lambda: bench.memory.records)
        assert bench.metric("in_flight_bytes") == len(GOOD)
        refused = await post(bench.door, GOOD)
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        bench.memory.acknowledging.set()
        assert (await first).status == 200
        assert (await post(bench.door, GOOD)).status == 200

    asyncio.run(story())
    assert bench.metric("in_flight_bytes") == 0


def test_when_bytes_are_short_the_largest_are_turned_away_first() -> None:
    bench = Bench(intake=Intake(8 * MIB, budget_bytes=10 * MIB))

    async def story() -> None:
        bench.memory.acknowledging.clear()
        half = asyncio.create_task(post(bench.door, GOOD.ljust(4 * MIB)))
        await until(lambda: bench.memory.records)
        assert (await post(bench.door, GOOD.ljust(4 * MIB))).status == 503
        small = asyncio.create_task(post(bench.door, GOOD.ljust(MIB)))
        await until(lambda: len(bench.memory.records) == 2)
        bench.memory.acknowledging.set()
        assert [(await half).status, (await small).status] == [200, 200]

    asyncio.run(story())


def test_requests_in_flight_beyond_the_cap_are_503_until_others_are_answered() -> None:
    bench = Bench(max_in_flight_requests=2)

    async def story() -> None:
        bench.memory.acknowledging.clear()
        waiting = [asyncio.create_task(post(bench.door, GOOD)) for _ in range(2)]
        await until(lambda: len(bench.memory.records) == 2)
        assert bench.metric("in_flight_requests") == 2
        refused = await post(bench.door, GOOD)
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        bench.memory.acknowledging.set()
        assert [(await each).status for each in waiting] == [200, 200]
        assert (await post(bench.door, GOOD)).status == 200

    asyncio.run(story())


def test_a_body_that_does_not_arrive_in_time_is_408() -> None:
    bench = Bench(intake=Intake(8 * MIB, read_timeout_s=0.02))
    answered = bench.exchange(scope(length=100), {"type": "http.request", "body": b"{", "more_body": True})
    assert answered is not None
    assert (answered.status, answered.headers["connection"]) == (408, "close")
    assert bench.metric("in_flight_bytes") == 0


def test_a_body_that_is_still_on_its_way_when_the_door_closes_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor.ingest.body.CLOSING_READ_TIMEOUT_S", 0.02)
    bench = Bench()

    async def story() -> Response | None:
        client = Client([{"type": "http.request", "body": b"{", "more_body": True}], [])
        request = asyncio.create_task(bench.door(scope(length=100), client.receive, client.send))
        await until(lambda: client.received)
        bench.door.close()
        await request
        return client.response()

    answered = asyncio.run(story())
    assert answered is not None
    assert answered.status == 503


def test_a_request_that_the_server_gives_up_is_503() -> None:
    bench = Bench()

    async def story() -> Response:
        bench.memory.acknowledging.clear()
        request = asyncio.create_task(post(bench.door, GOOD))
        await until(lambda: bench.memory.records)
        request.cancel()
        return await request

    assert asyncio.run(story()).status == 503


# --- clients that leave, and faults of ours


def test_a_client_that_leaves_while_it_sends_is_not_answered() -> None:
    bench = Bench()
    pieces = {"type": "http.request", "body": GOOD[:9], "more_body": True}
    assert bench.exchange(scope(length=len(GOOD)), pieces, DISCONNECT) is None
    assert (bench.memory.records, bench.metric("in_flight_bytes")) == ([], 0)
    assert bench.metric("requests_total", status="499", reason="left") == 1


def test_the_record_of_a_client_that_leaves_while_it_waits_goes_out_all_the_same() -> None:
    bench = Bench()

    async def gone(_message: dict[str, Any]) -> None:
        """As uvicorn does: what is sent to a client that left is dropped."""

    client = Client([*chunks(GOOD), DISCONNECT], [])
    asyncio.run(bench.door(scope(length=len(GOOD)), client.receive, gone))
    assert len(bench.memory.records) == 1


def test_a_fault_of_ours_is_500_and_its_log_holds_nothing_of_the_client(capsys: pytest.CaptureFixture[str]) -> None:
    class Faulty:
        async def publish(self, key: bytes, value: bytes) -> None:
            raise RuntimeError(f"cannot publish {key!r}")

    configure(Log(), "ingest")
    bench = Bench(Faulty())
    answered = bench.post(body(project_id="hunter2/hunter2"))
    logging.getLogger().handlers.clear()
    [event] = map(json.loads, capsys.readouterr().err.splitlines())
    assert (answered.status, b"hunter2" in answered.body) == (500, False)
    assert (event["level"], event["error"]) == ("error", "RuntimeError")
    assert any("publish" in frame for frame in event["where"])
    assert "hunter2" not in json.dumps(event)


def test_the_log_of_a_fault_has_the_id_that_its_answer_had(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Log(), "ingest")
    bench = Bench(MemoryPublisher({0: ZeroDivisionError(), 2: ZeroDivisionError()}))
    answered = [bench.post(headers=[*JSON, ("x-request-id", "hunter2")]) for _ in range(3)]
    logging.getLogger().handlers.clear()
    logged = [json.loads(line)["request_id"] for line in capsys.readouterr().err.splitlines()]
    ids = [each.headers["x-request-id"] for each in answered]
    assert logged == [ids[0], ids[2]]
    assert len(set(ids)) == 3
    assert "hunter2" not in "".join(ids), "a client's own id may say anything"


def test_every_request_has_a_line_at_the_level_debug_only(capsys: pytest.CaptureFixture[str]) -> None:
    for log, lines in ((Log(level="debug"), 2), (Log(), 0)):
        configure(log, "ingest")
        bench = Bench()
        bench.post()
        bench.post(b"{")
        logging.getLogger().handlers.clear()
        logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert [event["reason"] for event in logged if event["event"] == "answered"] == ["accepted", "invalid"][:lines]


def test_every_answer_there_is_has_a_reason_that_is_counted() -> None:
    words = {each.reason for each in vars(answers).values() if isinstance(each, answers.Answer)}
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "processor").rglob("*.py")]
    said = {word for text in sources for word in re.findall(r'reason="(\w+)"', text)}
    assert words | said <= set(ANSWERS)
    assert said >= {"broker_away", "queue_full", "shutting_down"}


def test_answers_are_counted_by_status_and_nothing_that_a_client_chose() -> None:
    bench = Bench()
    for content in (GOOD, GOOD, b"{"):
        bench.post(content)
    bench.post(path="/a/path/of/the/client")
    assert bench.metric("requests_total", status="200", reason="accepted") == 2
    assert bench.metric("requests_total", status="422", reason="invalid") == 1
    assert bench.metric("requests_total", status="404", reason="not_found") == 1
    assert bench.metric("request_seconds_count") == 4


def test_the_door_is_stricter_than_the_horizon_by_a_day() -> None:
    oldest = NOW - timedelta(days=HORIZON_DAYS - 1)
    assert Bench().post(body(ended_at=oldest.isoformat())).status == 200
    assert Bench().post(body(ended_at=(oldest - timedelta(seconds=1)).isoformat())).status == 422
