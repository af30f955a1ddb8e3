"""Records of others on the topic of calls, one a second: what the dead letters of a run are made of."""

from datetime import UTC, datetime
from itertools import cycle

from confluent_kafka import Producer

from processor.calls import parse_call_end
from processor.codec.rows import encode
from processor.sample.foreign import foreign_records
from processor.sample.posts import sample
from tests.stack import Installation

EVERY_S = 1.0
HORIZON_DAYS = 35


class ForeignProducer:
    """Nobody waits for their acknowledgements: what is on the log in the end is what counts."""

    def __init__(self, installation: Installation) -> None:
        now = datetime.now(UTC)
        (post, *_) = sample(0, now=now, calls=1, bad=False)
        framed = encode(parse_call_end(post.body, now=now, horizon_days=HORIZON_DAYS))
        self._values = cycle([record.value for record in foreign_records(framed)])
        self._topic = installation.topic
        self._producer = Producer(
            {"bootstrap.servers": installation.servers.bootstrap_servers, "linger.ms": 5, "log_level": 0}
        )
        self._number = 0
        self._closed = False

    def turn(self, now_s: float) -> None:
        self._producer.poll(0)
        if not self._closed and now_s >= self._number * EVERY_S:
            self._number += 1
            self._producer.produce(self._topic, next(self._values), key=f"foreign {self._number}".encode())

    def close(self) -> None:
        """What is not acknowledged within ten seconds may come or not: it does not come after this."""
        self._closed = True
        self._producer.flush(10)
        self._producer.purge()
        self._producer.flush(1)
