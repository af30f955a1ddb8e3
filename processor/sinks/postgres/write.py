"""The sink in PostgreSQL: one transaction for a batch's dedupe keys, totals and checkpoints.

1. lock the checkpoints' rows, in order of partition    another epoch or offset: `Fenced`, nothing is written
2. insert the keys that are new, sorted                 the others are repeats; below the floor: `Forgotten`
   meanwhile: add up the new calls
3. add their sums to the totals, sorted
4. move the checkpoints
5. COMMIT
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext

from processor.counting.totals import Calls
from processor.deadline import Deadline
from processor.sinks.base import Batch, Breaker, Checkpoint, LogIdentity, TakeOver, advanced, nothing
from processor.sinks.postgres.call_keys import Repeats, StagedKeys, stage
from processor.sinks.postgres.checkpoints import Checkpoints
from processor.sinks.postgres.connection import Connection, connect, translated_errors
from processor.sinks.postgres.dedupe import Dedupe
from processor.sinks.postgres.deltas import Deltas, deltas_of
from processor.sinks.postgres.migrate import check_migrated


class PostgresSink:
    """`folding`: makes what is entered while calls are folded to totals, for who wants to know how long that takes."""

    def __init__(
        self,
        dsn: Callable[[], str],
        log: LogIdentity,
        folding: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._dsn = dsn  # asked at every connection: a rotated secret is seen
        self._folding = folding
        self._checkpoints = Checkpoints(log)
        self._epochs: dict[int, int] = {}  # of the partitions that this process took
        self._connection: Connection | None = None
        self._dedupe: Dedupe | None = None
        self._seed = b""  # of the keys' hash; read with each session

    def take(self, wishes: Collection[TakeOver], deadline: Deadline) -> dict[int, Checkpoint]:
        with translated_errors():
            connection, _ = self._connected(deadline)
            self._checkpoints.check_identity(connection)
            taken = {}
            for wish in sorted(wishes, key=lambda wish: wish.partition):
                taken[wish.partition] = self._checkpoints.take(connection, wish, deadline)
                self._epochs[wish.partition] = taken[wish.partition].epoch
            self._checkpoints.check_identity(connection)  # two that begin on empty tables at once see each other here
            return taken

    def write(self, batch: Batch, deadline: Deadline, meanwhile: Callable[[], None] = nothing) -> dict[int, Checkpoint]:
        with translated_errors():
            connection, dedupe = self._connected(deadline)
            staged = stage(self._seed, batch.calls)
            dedupe.create_missing_days(connection, staged)
            sums = _Sums(batch.calls, staged, self._folding)

            def during_insert(counted_before: Mapping[int, int | None]) -> None:
                meanwhile()
                sums.of(counted_before)

            with connection.transaction():
                stored = self._checkpoints.lock(connection, batch)
                counted_before = dedupe.insert(connection, staged, during_insert)
                repeats, deltas = sums.of(counted_before)
                for each in deltas:
                    each.add(connection)
                moved = advanced(stored, batch, repeats.duplicates, repeats.conflicts)
                self._checkpoints.advance(connection, moved)
            return moved

    def read(self, partitions: Collection[int], deadline: Deadline) -> dict[int, Checkpoint | None]:
        with translated_errors():
            connection, _ = self._connected(deadline)
            return self._checkpoints.read(connection, partitions)

    def trip(self, partition: int, epoch: int, breaker: Breaker, deadline: Deadline) -> None:
        with translated_errors():
            connection, _ = self._connected(deadline)
            self._checkpoints.trip(connection, partition, epoch, breaker)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _connected(self, deadline: Deadline) -> tuple[Connection, Dedupe]:
        """The session, with this deadline; a new one where the old one is broken or was left in a transaction."""
        if self._connection is not None and self._dedupe is not None and _usable(self._connection):
            self._connection.deadline = deadline
            return self._connection, self._dedupe
        self.close()
        self._dedupe = None
        self._connection = connection = connect(self._dsn(), deadline)
        check_migrated(connection)
        self._checkpoints.check_identity(connection)
        self._checkpoints.register(connection, self._epochs)
        (self._seed,) = connection.execute("SELECT hash_seed FROM installation").fetchone() or (b"",)
        dedupe = Dedupe()
        dedupe.prepare(connection)
        self._dedupe = dedupe
        return connection, dedupe


def _usable(connection: Connection) -> bool:
    return not connection.closed and connection.info.transaction_status.name == "IDLE"


class _Sums:
    """What a batch adds to the totals, once it is known which of its calls are repeats; said again, it is not reckoned
    again."""

    def __init__(self, calls: Calls, staged: StagedKeys, folding: Callable[[], AbstractContextManager[object]]) -> None:
        self._calls = calls
        self._staged = staged
        self._folding = folding
        self._repeats: Repeats | None = None
        self._deltas: list[Deltas] = []

    def of(self, counted_before: Mapping[int, int | None]) -> tuple[Repeats, list[Deltas]]:
        repeats = self._staged.repeats(counted_before)
        if repeats != self._repeats:
            with self._folding():
                self._deltas = deltas_of(self._calls.fold(left_out=repeats.duplicates))
            self._repeats = repeats
        return repeats, self._deltas
