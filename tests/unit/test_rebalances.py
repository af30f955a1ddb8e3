from prometheus_client import CollectorRegistry

from processor.metrics import WorkerMetrics
from processor.sinks.base import Checkpoint
from processor.worker.assignment import Assignment
from processor.worker.rebalances import Rebalances


def test_what_the_group_gives_and_takes_is_counted_and_the_assignment_follows() -> None:
    assignment, registry = Assignment(lambda: 0.0), CollectorRegistry()
    rebalances = Rebalances(assignment, WorkerMetrics(registry))
    rebalances.assigned([2, 0, 1])
    assert assignment.due().keys() == {0, 1, 2}
    for partition in (0, 1, 2):
        assignment.took(partition, Checkpoint(epoch=1, next_offset=0, first_offset=0))
    rebalances.revoked([1])
    assert assignment.owned.keys() == {0, 2}
    rebalances.lost([0, 2])
    assert not assignment.owned
    counted = {event: registry.get_sample_value("call_processor_rebalances_total", {"event": event})
               for event in ("assigned", "revoked", "lost")}  # fmt: skip
    assert counted == {"assigned": 1, "revoked": 1, "lost": 1}
