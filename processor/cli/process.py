"""What both roles tell of their process."""

import time
from typing import Final

from prometheus_client import CollectorRegistry

from processor.kafka.client import LIBRDKAFKA
from processor.metrics import ProcessMetrics

STARTED_S: Final = time.time()


def process_metrics(registry: CollectorRegistry, role: str) -> ProcessMetrics:
    return ProcessMetrics(registry, role, LIBRDKAFKA, STARTED_S)
