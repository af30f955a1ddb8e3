"""Decode, check and fold a batch of 20,000 records: microseconds a record, by columns and by rows.

.venv/bin/python -m bench.decode

A calibration loop shows how disturbed the machine was: its spread is what any other figure may be off by.
"""

import statistics
import time
from collections.abc import Callable

from confluent_kafka import Message

from bench.machine import calibration
from bench.records import Load
from processor.batch import Decoded, Record
from processor.worker.decode import decode_columns, decode_rows

RECORDS = 20_000
HORIZON_DAYS = 35
RUNS = 9


def records(size: int, models: int = 1) -> list[Record]:
    """As the client hands them over."""
    load = Load(RECORDS, size=size, models=models, repeats=0)
    now_ms = time.time_ns() // 1_000_000
    return [
        Message(topic="calls", partition=0, offset=offset, key=key, value=value, timestamp=(2, now_ms))
        for offset, (key, value, _) in enumerate(load.records())
    ]


def microseconds(work: Callable[[], object], runs: int, events: int) -> tuple[float, float]:
    """CPU time an event: median and spread (the distance of the middle half of the runs)."""
    times = []
    for _ in range(runs):
        began = time.process_time()
        work()
        times.append((time.process_time() - began) * 1e6 / events)
    low, middle, high = statistics.quantiles(times, n=4)
    return middle, high - low


def counted(decode: Callable[[list[Record], int], Decoded], batch: list[Record]) -> None:
    decoded = decode(batch, HORIZON_DAYS)
    assert not decoded.rejects
    decoded.calls.fold(set())


def main() -> None:
    middle_ms, spread = calibration()
    print(f"calibration loop: {middle_ms:.1f} ms, spread {spread:.0f} %")
    for size, models in ((150, 1), (1100, 1), (150, 10)):
        batch = records(size, models)
        bytes_each = sum(len(record.value() or b"") for record in batch) / RECORDS
        columns = microseconds(lambda batch=batch: counted(decode_columns, batch), RUNS, RECORDS)  # type: ignore[misc]
        rows = microseconds(lambda batch=batch: counted(decode_rows, batch), 3, RECORDS)  # type: ignore[misc]
        print(
            f"{bytes_each:6.0f} B, {models:2} models: columns {columns[0]:5.2f} us a record (spread {columns[1]:.2f}),"
            f" rows {rows[0]:6.2f} us (spread {rows[1]:.2f}), ratio {rows[0] / columns[0]:.1f}"
        )


if __name__ == "__main__":
    main()
