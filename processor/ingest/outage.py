"""Whether the brokers are known to be away, so that the door need not wait to say so.

What librdkafka really tells (tried with a broker killed, frozen, and never there):

- killed, or never there: every connect is refused, and "all brokers down" comes within milliseconds, then every second;
- frozen (half-open: the kernel still accepts): nothing, for the length of two timeouts; records time out before that;
- the topic deleted: the brokers are well, records fail one by one.

So either of two signals begins an outage: that event, or a record that failed while nothing produced after it was
acknowledged. The second half matters: the leader of one partition may be away while all others acknowledge. There is
no event for "back again": only an acknowledgement ends it, and therefore a probe goes through now and then.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from processor.deadline import Clock
from processor.kafka.client import ClientEvent

PROBE_EVERY_S: Final = 0.5

OnChange = Callable[[bool, str], None]  # away or not, and why


class Outage:
    """Thread-safe: `admits` is asked in the event loop, the rest is told there or by the producer's poll thread.

    `refused_because`: the brokers turn our credentials or TLS down, so far as is known.
    """

    def __init__(self, on_change: OnChange = lambda *_: None, clock: Clock = time.monotonic) -> None:
        self._on_change = on_change
        self._clock = clock
        self._changing = threading.Lock()
        self._away = False
        self._last_ack_s = clock()
        self._last_probe_s = 0.0
        self._last_word = ""
        self.refused_because: str | None = None

    @property
    def is_known(self) -> bool:
        return self._away

    def admits(self) -> bool:
        """Whether a record may be tried now; while away, that is the probe, and the next is due in PROBE_EVERY_S."""
        if not self._away:
            return True
        now_s = self._clock()
        if now_s - self._last_probe_s < PROBE_EVERY_S:
            return False
        self._last_probe_s = now_s
        return True

    def on_event(self, event: ClientEvent) -> None:
        if event.refuses_us:
            self.refused_because = event.text
        if event.all_brokers_down:
            self._change(True, self._last_word or event.text)
        else:
            self._last_word = event.text  # why a connect failed says more than that all are down

    def acknowledged(self) -> None:
        self._last_ack_s = self._clock()
        self.refused_because = None
        if self._away:
            self._change(False, "a record was acknowledged")

    def failed(self, produced_at_s: float, why: str) -> None:
        """A record, produced at that time of the same clock, was not acknowledged."""
        if self._last_ack_s <= produced_at_s:
            self._change(True, why)

    def _change(self, away: bool, why: str) -> None:
        with self._changing:
            if self._away == away:
                return
            self._last_probe_s = self._clock()
            self._away = away
        self._on_change(away, why)
