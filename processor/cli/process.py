"""What both roles tell of their process."""

import gc
import time
from typing import Final

from prometheus_client import CollectorRegistry

from processor.kafka.client import LIBRDKAFKA
from processor.metrics import ProcessMetrics

STARTED_S: Final = time.time()
GC_THRESHOLD: Final = 50_000  # objects that are new and still there: more than a batch, or 200 waiting requests, has


def process_metrics(registry: CollectorRegistry, role: str) -> ProcessMetrics:
    return ProcessMetrics(registry, role, LIBRDKAFKA, STARTED_S)


def collect_garbage_seldom() -> None:
    """Neither a request nor a batch leaves a cycle behind, but where something failed. To look for some after each few
    objects, among all that wait to be written, took a tenth of the time of both roles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
