"""The door: valid calls of 1 KB become acknowledged records; beside it, the bare HTTP server, and FastAPI."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.meter import Sample
from bench.place import Place
from bench.posts import Plan
from bench.report import Result, Say, line
from bench.server import KEY, Server, door, echo, fastapi, finish, post, posted, seconds, spans, start
from tests.stack import wait_until

TITLE: Final = "Door"
RUNS: Final = 5
AWAY_RUNS: Final = 5
MANY: Final = 1000  # connections where the load is given, so that one is idle when a request is due
AT_64, AT_256 = "64 connections", "256 connections"
ECHO, FASTAPI = "bare echo on the same HTTP server", "FastAPI, naive"
IN_FLIGHT: Final = 500  # the door's limit in overload; at its default the load of one machine would not reach it
AWAY: Final = Plan(port=0, connections=64, seconds=60, per_s=200)
GOES_AFTER_S, RETURNS_AFTER_S = 3.0, 8.0
AT_ONCE_MS: Final = 500.0  # what was refused later than this had waited for the broker


def measure(place: Place, say: Say) -> list[Result]:
    samples: dict[str, list[Sample]] = {}

    def keep(name: str, sample: Sample) -> Sample:
        samples.setdefault(name, []).append(sample)
        say(f"{name}, run {len(samples[name])}: {line(sample)}")
        return sample

    for _ in range(RUNS):
        with echo(place) as server:
            closed(server, lambda name, sample: keep(f"{ECHO}, {name}", sample))
        with fastapi(place) as server:
            closed(server, lambda name, sample: keep(f"{FASTAPI}, {name}", sample))
        with door(place) as server:
            most = closed(server, keep)
            keep("64 connections, gzip", post(server, Plan(server.port, gzip=True)))
            keep("70 % of the highest rate, 1,000 connections", given(server, 0.7 * most))
        with door(place, keys=True) as server:
            keep("64 connections, credentials", post(server, Plan(server.port, key=KEY)))
        with door(place, processes=2) as server:
            keep("256 connections, two processes", post(server, Plan(server.port, connections=256)))
        with door(place, INGEST__MAX_IN_FLIGHT_REQUESTS=str(IN_FLIGHT)) as server:
            keep(f"150 % of it, {IN_FLIGHT} in flight at most", overload(server, 1.5 * most))
    for _ in range(AWAY_RUNS):
        keep("the broker goes, and returns", broker_away(place))
    results = {name: Result(name, kept) for name, kept in samples.items()}
    for name in (AT_64, AT_256):
        for other in (ECHO, FASTAPI):
            compare(results[name], results[f"{other}, {name}"])
    return list(results.values())


def compare(ours: Result, other: Result) -> None:
    ours.compare("requests/s", other)
    ours.compare("door us", other, less_is_better=True)


def closed(server: Server, keep: Callable[[str, Sample], Sample]) -> float:
    """As fast as it answers: the highest rate."""
    first = keep(AT_64, post(server, Plan(server.port)))
    second = keep(AT_256, post(server, Plan(server.port, connections=256)))
    return max(first["requests/s"], second["requests/s"])


def given(server: Server, per_s: float) -> Sample:
    return post(server, Plan(server.port, connections=MANY, per_s=per_s))


def overload(server: Server, per_s: float) -> Sample:
    sample, got = posted(server, Plan(server.port, connections=2 * MANY, per_s=per_s))
    accepted, refused = got.latencies_ms(200), got.latencies_ms(503)
    assert len(accepted) + len(refused) == len(got.status), f"answers: {sorted(set(got.status))}"
    found = sample | {"503/s": len(refused) / seconds(got)} | spans("200 ", accepted)
    return found | spans("503 ", refused)


def broker_away(place: Place) -> Sample:
    """Killed, and started again, under a small load."""
    with door(place) as server, tempfile.TemporaryDirectory(dir=place.folder) as folder:
        began_s = time.monotonic()
        posting = start(replace(AWAY, port=server.port), Path(folder) / "answers")
        _wait_until_s(began_s + GOES_AFTER_S)
        place.kafka.kill()
        gone_s = time.monotonic()
        _wait_until_s(began_s + RETURNS_AFTER_S)
        place.kafka.start()
        back_s = time.monotonic()
        _wait_until_s(back_s + GOES_AFTER_S)
        posting.terminate()
        got = finish(posting, Path(folder) / "answers")
    each = list(zip(got.at_s, got.status, got.took_s, strict=True))
    known_s = min(at_s for at_s, status, _ in each if status == 503 and at_s > gone_s)
    again_s = min(at_s for at_s, status, _ in each if status == 200 and at_s > known_s)
    refused = [1000 * took_s for at_s, status, took_s in each if status == 503 and known_s < at_s < again_s]
    at_once = [took_ms for took_ms in refused if took_ms < AT_ONCE_MS]
    return {
        "s until the first 503": known_s - gone_s,
        **spans("503 ", at_once),
        "503 that had waited": len(refused) - len(at_once),
        "s from its return to the first 200": again_s - back_s,
    }


def _wait_until_s(at_s: float) -> None:
    wait_until(lambda: time.monotonic() >= at_s, within_s=60, what="the moment has come")
