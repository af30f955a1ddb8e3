"""What the group gives and takes, told to the assignment, the metrics and the log."""

from collections.abc import Collection
from dataclasses import dataclass

import structlog

from processor.metrics import WorkerMetrics
from processor.worker.assignment import Assignment

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Rebalances:
    assignment: Assignment
    metrics: WorkerMetrics

    def assigned(self, partitions: Collection[int]) -> None:
        self.assignment.assigned(partitions)
        self._tell("assigned", partitions)

    def revoked(self, partitions: Collection[int]) -> None:
        self.assignment.revoked(partitions)
        self._tell("revoked", partitions)

    def lost(self, partitions: Collection[int]) -> None:
        self.assignment.revoked(partitions)
        self._tell("lost", partitions)

    def _tell(self, event: str, partitions: Collection[int]) -> None:
        self.metrics.rebalances.labels(event).inc()
        log.info(f"partitions {event}", partitions=sorted(partitions))
