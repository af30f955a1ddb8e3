"""What librdkafka measures itself, of which few figures say something."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

EVERY_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of all brokers together. The counts are since the client was made."""

    brokers_connected: int
    round_trip_s: float  # 99th percentile to the slowest broker, in the last interval; 0 where nothing was asked
    disconnects: int
    request_timeouts: int


OnStatistics = Callable[[Statistics], None]


def reporting(on_statistics: OnStatistics | None, properties: Mapping[str, Any]) -> dict[str, Any]:
    """`properties`, so that it is told every ten seconds, if anybody wants to know; an operator may say how often."""
    if on_statistics is None:
        return dict(properties)
    return {
        "statistics.interval.ms": EVERY_MS, **properties, "stats_cb": lambda text: on_statistics(parse(text)),
    }  # fmt: skip


def parse(text: str) -> Statistics:
    brokers = json.loads(text)["brokers"].values()
    return Statistics(
        # By id: the coordinator of a group is listed beside the broker that it is.
        brokers_connected=len({b["nodeid"] for b in brokers if b["state"] == "UP" and b["nodeid"] >= 0}),
        round_trip_s=max((b["rtt"]["p99"] for b in brokers), default=0) / 1e6,
        disconnects=sum(b["disconnects"] for b in brokers),
        request_timeouts=sum(b["req_timeouts"] for b in brokers),
    )
