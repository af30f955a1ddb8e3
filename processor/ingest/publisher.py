"""Where the door puts a record, and what it can promise afterwards."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

import structlog

from processor.config import PREFIX
from processor.deadline import Clock
from processor.errors import TooLarge, Unavailable
from processor.ingest.outage import Outage
from processor.kafka.producer import Headers, NotDelivered, OnDelivery, PerhapsTooLarge
from processor.metrics import IngestMetrics

log = structlog.get_logger(__name__)

AWAY_RETRY_AFTER_S: Final = 5  # a broker that restarts needs some seconds
SERVE_EVERY_S: Final = 0.001
PROBE_WAIT_S: Final = 1.0  # of the client whose record is the probe; the record itself goes on trying


Produce = Callable[[str, bytes | None, bytes | None, Headers, OnDelivery], None]  # `kafka.producer.Producer.produce`
_Fate = asyncio.Future[None]


class Publisher(Protocol):
    async def publish(self, key: bytes, value: bytes) -> None:
        """Returns when every in-sync replica has the record, and never before.

        `TooLarge`: the broker will never take it. `Unavailable`: no promise; the record may arrive all the same.
        """


class KafkaPublisher:
    """One topic. `publish` belongs to the event loop. While records wait it calls `serve`, so that their reports arrive
    there, many at a time (`Producer.serve`); they may as well arrive in another thread.

    `outage` must be told of the producer's events: `Producer(..., on_event=outage.on_event)`.
    """

    def __init__(
        self,
        produce: Produce,
        topic: str,
        outage: Outage,
        metrics: IngestMetrics,
        *,
        ack_timeout_s: float,
        serve: Callable[[], None],
        clock: Clock = time.monotonic,
    ) -> None:
        self._produce = produce
        self._topic = topic
        self._outage = outage
        self._metrics = metrics
        self._ack_timeout_s = ack_timeout_s
        self._serve = serve
        self._clock = clock
        self._size_refused = False
        self._waiting: deque[tuple[float, _Fate, float]] = deque()  # gives up at (of the loop), fate, produced at
        self._attending: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    async def publish(self, key: bytes, value: bytes) -> None:
        if not self._outage.admits():
            raise Unavailable("no broker answers", AWAY_RETRY_AFTER_S, reason="broker_away")
        loop = asyncio.get_running_loop()
        fate: _Fate = loop.create_future()
        produced_at_s = self._clock()
        self._produce(self._topic, key, value, (), partial(self._report, loop, fate, produced_at_s))
        del value
        # The producer gives a record up before the ack timeout; a report that never comes must not hold the client.
        if self._outage.is_known:
            loop.call_later(PROBE_WAIT_S, self._give_up, fate, produced_at_s)
        self._waiting.append((loop.time() + self._ack_timeout_s, fate, produced_at_s))
        if self._attending is not loop:
            self._attending, self._thread = loop, threading.get_ident()
            loop.call_later(SERVE_EVERY_S, self._attend, loop)
        await fate

    def _attend(self, loop: asyncio.AbstractEventLoop) -> None:
        """As long as a record waits; one timer for all of them."""
        self._serve()
        now_s, waiting = loop.time(), self._waiting
        while waiting and (waiting[0][1].done() or waiting[0][0] <= now_s):
            _, fate, produced_at_s = waiting.popleft()
            self._give_up(fate, produced_at_s)
        if waiting:
            loop.call_later(SERVE_EVERY_S, self._attend, loop)
        else:
            self._attending = None

    def _give_up(self, fate: _Fate, produced_at_s: float) -> None:
        if not fate.done():
            late = Unavailable("no acknowledgement in time", reason="no_acknowledgement")
            self._outage.failed(produced_at_s, str(late))
            fate.set_exception(late)

    def _report(
        self, loop: asyncio.AbstractEventLoop, fate: _Fate, produced_at_s: float, error: Exception | None
    ) -> None:
        if error is None:
            self._outage.acknowledged()
        elif isinstance(error, TooLarge | PerhapsTooLarge):
            self._warn_of_size()
        else:
            self._outage.failed(produced_at_s, str(error))
        if self._attending is loop and threading.get_ident() == self._thread:
            self._settle(fate, produced_at_s, error)
            return
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._settle, fate, produced_at_s, error)

    def _settle(self, fate: _Fate, produced_at_s: float, error: Exception | None) -> None:
        if isinstance(error, NotDelivered):
            self._metrics.producer_errors.inc((error.kind,))
        elif error is None:
            self._metrics.ack_seconds.observe(self._clock() - produced_at_s)
        if fate.done():
            return
        if error is None:
            fate.set_result(None)
        else:
            fate.set_exception(error)

    def _warn_of_size(self) -> None:
        """The door let it in, so the settings disagree with the topic. Once."""
        if not self._size_refused:
            self._size_refused = True
            log.warning(
                f"the topic refuses records that {PREFIX}INGEST__MAX_RECORD_BYTES allows: "
                "set that to the topic's max.message.bytes",
                topic=self._topic,
            )
