"""When to stop rather than to count wrongly: each a `Stop` with exit code 4 and one sentence."""

from processor.errors import ExitCode, Stop
from processor.sinks.base import Breaker, Checkpoint


def check_bounds(partition: int, checkpoint: Checkpoint, log_start: int, log_end: int) -> None:
    """The next offset must be one that the log still has, or the one after its last."""
    if checkpoint.next_offset < log_start:
        raise _stop(
            f"partition {partition}: the log begins at offset {log_start}, but counting stopped at "
            f"{checkpoint.next_offset}: records were deleted before they were counted"
        )
    if checkpoint.next_offset > log_end:
        raise _stop(
            f"partition {partition}: the log ends at offset {log_end}, but counting had reached "
            f"{checkpoint.next_offset}: the log lost records, or is another one"
        )


def tripped(partition: int, breaker: Breaker) -> Stop:
    return _stop(
        f"partition {partition}: the breaker tripped at offset {breaker.tripped_at} ({breaker.run} records in a row, "
        f"{breaker.rejected} of the last {breaker.read} were rejected): mend their producer, then run "
        "`call-processor resume`"
    )


def nonsense(partition: int) -> Stop:
    return _stop(
        f"the checkpoint of partition {partition} is where no batch of its owner leads: somebody else writes these "
        "tables; look at `call-processor checkpoints`"
    )


def two_deployments(partition: int, times: int, window_s: float) -> Stop:
    return _stop(
        f"partition {partition} was taken by another owner {times} times within {window_s:.0f} s: two deployments "
        "write these tables; stop one of them"
    )


def _stop(sentence: str) -> Stop:
    return Stop(ExitCode.PROTECT_NUMBERS, sentence)
