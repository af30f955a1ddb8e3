"""One librdkafka producer and the thread that serves it, from birth to burial.

librdkafka calls nobody by itself: delivery reports, errors and its log wait until somebody polls. One thread does
nothing else, so that an acknowledgement is told within microseconds, whatever the rest of the process does. Who wants
the reports in a thread of its own serves itself: two threads that tell each other of each report use more time than all
else that is done for a record.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException

from processor.config import PREFIX
from processor.errors import ExitCode, Stop, Unavailable
from processor.kafka.properties import refused
from processor.kafka.statistics import OnStatistics, reporting

POLL_S: Final = 0.1
LIBRDKAFKA: Final = confluent_kafka.libversion()[0]

log = logging.getLogger("librdkafka")


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Not every failed connect, 20 a second while a broker is away: the change of state is told by `on_event`. Nor that
    a producer ignores the consumers' properties: one file serves both. Nor that a broker which has just started is
    asked again: it answers within a second."""
    said = record.getMessage()
    quiet = (
        said.startswith("FAIL [")
        or (said.startswith("CONFWARN [") and "will be ignored by this" in said)
        or "Coordinator load in progress" in said
    )
    return log.isEnabledFor(logging.DEBUG) or not quiet


log.addFilter(_is_worth_a_line)


@dataclass(frozen=True, slots=True)
class ClientEvent:
    """What librdkafka says about its brokers or itself, not about one record."""

    name: str
    text: str
    all_brokers_down: bool
    refuses_us: bool  # credentials or TLS: waiting does not help
    fatal: bool


OnEvent = Callable[[ClientEvent], None]
# Errors of every kind of client: credentials or TLS.
REFUSALS: Final = {KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED}


def refuses_us(why: str) -> Stop:
    """`why`: what librdkafka says of such an error."""
    return Stop(
        ExitCode.DEPENDENCY,
        f"the Kafka brokers refuse this client ({why}): check the TLS and SASL properties in "
        f"{PREFIX}KAFKA__PROPERTIES_FILE",
    )


class Client:
    """`on_event` and delivery callbacks are called in the poll thread, or in the one that serves itself.

    Every record is reported once: by `close` at the latest, and soon after a fatal error.
    """

    def __init__(
        self, properties: Mapping[str, Any], on_event: OnEvent, on_statistics: OnStatistics | None = None
    ) -> None:
        self._on_event = on_event
        self._closing = threading.Event()
        self._entering = threading.Lock()
        self._users = 0
        self._served = False  # by somebody else than the poll thread, since that last looked
        self.failed = False  # fatally: librdkafka takes nothing more
        self.may_not_write = False  # and that is why it failed
        try:
            self._raw = confluent_kafka.Producer(
                {**reporting(on_statistics, properties), "error_cb": self._on_error, "logger": log}
            )
        except KafkaException as error:
            raise refused(error) from None
        self._thread = threading.Thread(target=self._poll, name="kafka-producer", daemon=True)
        self._thread.start()

    @property
    def is_polled(self) -> bool:
        return self._thread.is_alive()

    @contextmanager
    def using(self) -> Iterator[confluent_kafka.Producer]:
        """librdkafka's handle, from any thread. It is not destroyed while in use: nothing in C would notice.

        `Unavailable` once it has failed or is being closed.
        """
        with self._entering:
            if self.failed or self._closing.is_set():
                raise Unavailable("the producer has failed or is closed", reason="producer_failed")
            self._users += 1
        try:
            yield self._raw
        finally:
            with self._entering:
                self._users -= 1

    def serve(self) -> None:
        """Calls back for what is there, in this thread; never waits. The poll thread stands back for a while."""
        self._served = True
        with suppress(Unavailable), self.using():
            self._serve(0)

    def close(self) -> None:
        """What is not acknowledged by now is given up and reported so."""
        with self._entering:
            self._closing.set()
        self._thread.join()

    def _poll(self) -> None:
        while not (self._closing.is_set() or self.failed):
            if self._served:
                self._served = False
                self._closing.wait(POLL_S)
            else:
                self._serve(POLL_S)
        while self._is_used():
            self._serve(POLL_S)
        self._raw.purge()
        while len(self._raw):
            self._serve(POLL_S)
        self._raw.close()  # flushes without a limit: nothing is left to flush

    def _is_used(self) -> bool:
        with self._entering:
            return self._users > 0

    def _serve(self, wait_s: float) -> None:
        try:
            self._raw.poll(wait_s)
        except KafkaException as error:  # confluent_kafka raises a fatal error here instead of calling `error_cb`
            self._on_error(error.args[0])
        except Exception as error:  # noqa: BLE001  # of a callback; were the thread to end, no record would be reported
            log.error("a callback raised %s", type(error).__name__)  # noqa: TRY400  # its text may hold a value

    def _on_error(self, error: KafkaError) -> None:
        code = error.code()
        fatal = error.fatal() or code == KafkaError._FATAL
        if fatal:
            with self._entering:
                self.failed = True
                # Of whoever may write to no topic at all an idempotent producer is refused, by this name.
                self.may_not_write = code == KafkaError.CLUSTER_AUTHORIZATION_FAILED
        all_down = code == KafkaError._ALL_BROKERS_DOWN
        self._on_event(ClientEvent(error.name(), error.str(), all_down, code in REFUSALS, fatal))
