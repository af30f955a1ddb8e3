"""`call-processor worker`, but the Kafka client loses some records: it hands them over only when they are read again.

python losing_worker.py <offset>...        of every partition
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import patch

from processor.batch import Reading, Record, offset_of, partition_of
from processor.cli import worker
from processor.cli.main import main
from processor.kafka.consumer import Consumer

OFFSETS = set(map(int, sys.argv[1:]))
lost: set[tuple[int, int]] = set()


class LosingConsumer(Consumer):
    def read(self, max_records: int, timeout_s: float) -> Reading:
        reading = super().read(max_records, timeout_s)
        return replace(reading, records=list(kept(reading)))


def kept(reading: Reading) -> Iterator[Record]:
    for record in reading.records:
        place = partition_of(record), offset_of(record)
        if offset_of(record) in OFFSETS and place not in lost:
            lost.add(place)
            sys.stderr.write(f"lost {place}\n")
        else:
            yield record


if __name__ == "__main__":
    sys.argv[1:] = ["worker"]
    with patch.object(worker, "Consumer", LosingConsumer):
        main()
