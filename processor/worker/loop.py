"""The worker: one synchronous loop in one thread.

    read -> buffer -> decode -> judge -> dead letters -> sink.write -> advance

Everything before the dead letters is pure and thrown away when a partition goes. When something cannot be done now,
reading pauses, polling goes on, and the same records are composed anew for the next try: a partition that went
meanwhile is not in it.

While the sink writes, the next records are read, and put aside: they are buffered in the next turn. A partition may go
in this reading, too; what was written of it is no longer ours to know.
"""

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from processor.batch import Decode, Reading, Record, Reject, offset_of, partition_of
from processor.deadline import Clock, Deadline
from processor.errors import ReadFailed, Stop, Unavailable
from processor.metrics import WorkerMetrics
from processor.sinks.base import Batch, Breaker, Checkpoint, Fenced, Forgotten, Sink, TakeOver, Unstorable
from processor.worker.assignment import Assignment, Verdict
from processor.worker.breaker import BreakerLimits
from processor.worker.compose import compose
from processor.worker.guards import check_bounds, nonsense, tripped
from processor.worker.lag import Lag, moved, progress_of
from processor.worker.suspects import Suspects

log = structlog.get_logger(__name__)

READ_TIMEOUT_S: Final = 0.19  # the client's consume() loops in chunks of 200 ms
SINK_DEADLINE_S: Final = 20.0
DEAD_LETTER_TIMEOUT_S: Final = 10.0
COMPARE_EVERY_S: Final = 5.0
BACK_OFF_MAX_S: Final = 5.0
BATCH_MAX_BYTES: Final = 32 * 2**20  # records of 8 MiB must not make a batch of gigabytes


class LogReader(Protocol):
    """The consumer, as the loop needs it."""

    def read(self, max_records: int, timeout_s: float) -> Reading: ...
    def pause(self, partitions: Iterable[int]) -> None: ...
    def resume(self, partitions: Iterable[int]) -> None: ...
    def seek(self, offsets: Mapping[int, int]) -> None: ...
    def log_bounds(self, partitions: Iterable[int]) -> dict[int, tuple[int, int]]: ...
    def mirror(self, next_offsets: Mapping[int, int]) -> None: ...
    def close(self) -> None: ...


class DeadLetterWriter(Protocol):
    def send(self, rejects: Collection[Reject], timeout_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    batch_max_records: int
    batch_max_age_s: float
    breaker: BreakerLimits


@dataclass(frozen=True, slots=True)
class _Read:
    began_s: float
    reading: Reading | None  # None: it failed, and all that is not written must be read again


@dataclass(slots=True)
class Worker:
    reader: LogReader
    assignment: Assignment
    sink: Sink
    dead_letters: DeadLetterWriter
    decode: Decode
    limits: Limits
    metrics: WorkerMetrics
    clock: Clock
    now_ms: Callable[[], float]  # since 1970, to tell the age of records
    last_turn_s: float = field(init=False)
    failures: int = 0  # tries in a row that something was unavailable
    waiting_for: str = ""  # what was unavailable, when it last was
    lag: Lag = field(default_factory=Lag)
    _suspects: Suspects = field(default_factory=Suspects)
    _ahead: _Read | None = None  # read while the sink wrote
    _try_at_s: float = 0.0
    _compare_at_s: float = 0.0
    _oldest_s: float | None = None  # since when something is buffered
    _unsought: set[int] = field(default_factory=set)  # partitions whose last seek was refused

    def __post_init__(self) -> None:
        self.last_turn_s = self.clock()  # who asks before the first turn must not take us for stuck

    def run(self, stopping: Callable[[], bool]) -> None:
        """Until `stopping`; then one last try to write what is buffered, and the group is left."""
        try:
            while not stopping():
                self.turn()
            if self.failures == 0:
                self._try(self._write)
        finally:
            self.reader.close()
            self.sink.close()

    def turn(self) -> None:
        self.last_turn_s = self.clock()
        self._read()
        if self.clock() >= self._try_at_s:
            self._try(self._work)
        self._show_ownership()

    def _work(self) -> None:
        self._take()
        self._compare()
        if self._batch_is_due():
            self._write()

    # reading

    def _read(self) -> None:
        room = self.limits.batch_max_records - self.assignment.unwritten()
        read, self._ahead = self._ahead, None
        if read is not None and read.reading is not None and len(read.reading.records) > room:  # the sink did not write
            self._read_again(self.assignment.read_again(self.assignment.owned))
            read = None
        if read is None:
            read = self._ask(max(1, room), self._patience_s())
        if read.reading is None:
            self._read_again(self.assignment.forget_buffers())
        else:
            self._read_again(self.assignment.accept(read.reading))
        if not self.assignment.unwritten():
            self._oldest_s = None
        elif self._oldest_s is None:
            self._oldest_s = read.began_s  # a record may have come then, and the client returns when its time is over

    def _read_ahead(self) -> None:
        """Not beside a large batch, whose records need the memory."""
        if self._ahead is None and self.assignment.unwritten_bytes() < BATCH_MAX_BYTES:
            self._ahead = self._ask(self.limits.batch_max_records, 0)

    def _ask(self, max_records: int, timeout_s: float) -> _Read:
        began_s = self.clock()
        try:
            return _Read(began_s, self.reader.read(max_records, timeout_s))
        except ReadFailed as error:
            log.warning("reading failed: all that is not written is read again", error=str(error))
            return _Read(began_s, None)

    def _read_again(self, offsets: Mapping[int, int]) -> None:
        """And what could not be sought in the last turn: no record may come that would show the hole again.

        Each by itself: one that is just going must not keep the others.
        """
        unsought = set()
        for partition, offset in {**self.assignment.read_again(self._unsought), **offsets}.items():
            try:
                self.reader.seek({partition: offset})
            except Unavailable as error:
                unsought.add(partition)
                self.assignment.owned[partition].buffer.forget_gaps()
                if partition not in self._unsought:
                    log.warning("seek failed: it is tried again in each turn", partition=partition, error=str(error))
        self._unsought = unsought

    def _patience_s(self) -> float:
        if self._oldest_s is None or self.failures:
            return READ_TIMEOUT_S
        return min(READ_TIMEOUT_S, max(0.0, self._oldest_s + self.limits.batch_max_age_s - self.clock()))

    # owning

    def _take(self) -> None:
        """Raise the epochs, go where the rows say, and only then read."""
        wanted = self.assignment.due()
        starts = self._led(wanted)
        if not starts:
            return
        wishes = [TakeOver(partition, start, wanted[partition]) for partition, (start, _) in starts.items()]
        taken = self.sink.take(wishes, self._deadline())
        bounds = self._led(taken)  # now: until it was taken, a former owner may have counted on
        taken = {partition: taken[partition] for partition in bounds}
        for partition, checkpoint in taken.items():
            if checkpoint.breaker.tripped_at is not None:
                raise self._tripped(partition, checkpoint.breaker)
            check_bounds(partition, checkpoint, *bounds[partition])
        offsets = {partition: checkpoint.next_offset for partition, checkpoint in taken.items()}
        self.reader.resume(taken)
        self.reader.seek(offsets)  # not before `resume`: what is sought while it is paused is fetched a second later
        for partition, checkpoint in taken.items():
            self.assignment.took(partition, checkpoint)
        self.reader.mirror(offsets)
        log.info("partitions taken", offsets=offsets)

    def _led(self, partitions: Collection[int]) -> dict[int, tuple[int, int]]:
        """The bounds of their logs; those without a leader are put off."""
        if not partitions:
            return {}
        bounds = self.reader.log_bounds(partitions)
        if without := sorted(set(partitions) - bounds.keys()):
            log.warning("partitions without a leader wait, the others are counted", partitions=without)
            self.assignment.put_off(without)
        return bounds

    def _compare(self) -> None:
        """An idle partition would otherwise never notice that the database forgot its tail."""
        if self.assignment.owned and self.clock() >= self._compare_at_s:
            self._settle(self.sink.read(list(self.assignment.owned), self._deadline()))
            self._compare_at_s = self.clock() + COMPARE_EVERY_S

    # writing

    def _batch_is_due(self) -> bool:
        if self._oldest_s is None:
            return False
        full = (
            self.assignment.unwritten() >= self.limits.batch_max_records
            or self.assignment.unwritten_bytes() >= BATCH_MAX_BYTES
        )
        return full or self.clock() - self._oldest_s >= self.limits.batch_max_age_s

    def _write(self) -> None:
        owned, records = self.assignment.owned, self._suspects.next_of(self.assignment.to_write())
        if not records:
            return
        with self.metrics.decode_seconds.time():
            decoded = self._suspects.decode(records, self.decode)
        batch = compose(owned, records, decoded, self.limits.breaker)
        self._stop_if_tripped(batch)
        self._send_dead_letters(decoded.rejects)
        before = {}
        for span in batch.spans:
            before[span.partition] = owned[span.partition].checkpoint
            owned[span.partition].attempted_ends.add(span.end)
        try:
            with self.metrics.write_seconds.time():
                stored = self.sink.write(batch, self._deadline(), self._read_ahead)
        except Fenced as fenced:
            self._settle(fenced.stored)
        except Unstorable as refusal:
            self._suspects.refused(records, refusal)
        except Forgotten as forgotten:
            self._suspects.forgotten(batch.calls, forgotten.positions)
        else:
            self._suspects.stored()
            self._tell(batch, records, before, stored)
            self._advance(stored)

    def _stop_if_tripped(self, batch: Batch) -> None:
        """Before anything of the batch is published; kept in the sink first, so that a restart does not forget it."""
        for span in batch.spans:
            if span.breaker.tripped_at is not None:
                self.sink.trip(span.partition, span.epoch, span.breaker, self._deadline())
                raise self._tripped(span.partition, span.breaker)

    def _tripped(self, partition: int, breaker: Breaker) -> Stop:
        self.metrics.breaker_open.set(1)
        return tripped(partition, breaker)

    def _send_dead_letters(self, rejects: Iterable[Reject]) -> None:
        """Acknowledged before the write; a second try of the same records does not send them again."""
        sent = {partition: owned.buffer.dead_letters_sent for partition, owned in self.assignment.owned.items()}
        unsent = [r for r in rejects if offset_of(r.record) not in sent[partition_of(r.record)]]
        if not unsent:
            return
        self.dead_letters.send(unsent, DEAD_LETTER_TIMEOUT_S)
        for reject in unsent:
            sent[partition_of(reject.record)].add(offset_of(reject.record))

    def _tell(
        self,
        batch: Batch,
        records: Mapping[int, Sequence[Record]],
        before: Mapping[int, Checkpoint],
        stored: Mapping[int, Checkpoint],
    ) -> None:
        """One line, and the delay of each partition's oldest record for all that came with it."""
        now_ms = self.now_ms()
        self.metrics.batch_records.observe(sum(span.records_read for span in batch.spans))
        for of_partition in records.values():
            if of_partition:
                age_s = max(0.0, (now_ms - of_partition[0].timestamp()[1]) / 1000)
                self.metrics.counted_delay_seconds.observe(age_s, len(of_partition))
        for partition, row in stored.items():
            self.metrics.committed(before[partition], row)
        log.info("batch written", **moved(before, stored))

    # what the sink says

    def _settle(self, stored: Mapping[int, Checkpoint | None]) -> None:
        """Rows may not be as we left them: find out why, for each, and do what is right."""
        for partition, row in stored.items():
            owned = self.assignment.owned.get(partition)
            if owned is None:  # it went meanwhile
                continue
            verdict = owned.judge(row)
            if verdict is Verdict.UNCHANGED:
                continue
            log.warning("a checkpoint is not as we left it", partition=partition, why=verdict.value)
            if verdict is Verdict.NONSENSE:
                raise nonsense(partition)
            if verdict is Verdict.COMMITTED and row is not None:
                self.metrics.committed(owned.checkpoint, row)
                self._advance({partition: row})
                continue
            self.reader.pause([partition])
            self.metrics.fenced.inc()
            if verdict is Verdict.SET_BACK:
                self.assignment.take_again(partition, row)
            else:
                self.assignment.give_way(partition)

    def _advance(self, stored: Mapping[int, Checkpoint]) -> None:
        ours = {partition: row for partition, row in stored.items() if partition in self.assignment.owned}
        for partition, row in ours.items():
            owned = self.assignment.owned[partition]
            owned.advance(row)
            owned.moved_s = self.clock()
        self._oldest_s = self.clock() if self.assignment.unwritten() else None
        self.reader.mirror({partition: row.next_offset for partition, row in ours.items()})

    # what cannot be done now

    def _try(self, work: Callable[[], None]) -> None:
        """Do it. If something is unavailable: stop reading, go on polling, come back later."""
        try:
            work()
        except Unavailable as error:
            self.failures += 1
            self.waiting_for = str(error)
            self.metrics.unavailable.inc()
            self.metrics.waiting.set(1)
            wait_s = min(BACK_OFF_MAX_S, 0.1 * 2**self.failures) * random.uniform(0.5, 1)  # noqa: S311
            self._try_at_s = self.clock() + wait_s
            self._compare_at_s = 0.0  # a new connection may lead to a database that was set back
            self.reader.pause(self.assignment.owned)
            log.warning("waiting", reason=str(error), tries=self.failures, again_in_s=round(wait_s, 2))
        else:
            if self.failures:
                self.failures = 0
                self.metrics.waiting.set(0)
                self.reader.resume(self.assignment.owned)
                log.info("going on")

    def _deadline(self) -> Deadline:
        return Deadline.after(SINK_DEADLINE_S, self.clock)

    def _show_ownership(self) -> None:
        owned = self.assignment.owned
        self.metrics.partitions_owned.set(len(owned))
        self.metrics.unaccounted_records.set(sum(o.checkpoint.unaccounted for o in owned.values()))
        self.lag.progressed({partition: progress_of(one) for partition, one in owned.items()})
