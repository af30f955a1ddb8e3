"""The guards of the protocol, each taken away: what the program would be without it, and which law then breaks.

A mutation replaces text of the program. Each text must be found exactly once: when the program changes, a mutation
whose text is gone fails loudly instead of passing in silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.chaos.judge import Law


@dataclass(frozen=True, slots=True)
class Edit:
    file: str  # below processor/
    old: str
    new: str

    def apply(self, processor: Path) -> None:
        path = processor / self.file
        text = path.read_text(encoding="utf-8")
        if (times := text.count(self.old)) != 1:
            raise LookupError(f"{self.file} has this text {times} times, not once:\n{self.old}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Mutation:
    """`proof`: which one must notice; `says`: with these words."""

    guard: str
    law: str  # what breaks
    proof: str
    says: str
    edits: Sequence[Edit]


MODEL: Final = "model"
REPEATS: Final = "repeats"
CHECK: Final = "if row is None or row.epoch != span.epoch or row.next_offset != span.start:"

MUTATIONS: Final = (
    Mutation(
        "compare-and-swap of the offset",
        "conservation, and the totals when the database was set back",
        MODEL,
        "every_offset_is_accounted_for",
        [Edit("sinks/postgres/checkpoints.py", CHECK, "if row is None or row.epoch != span.epoch:")],
    ),
    Mutation(
        "epoch",
        "when an owner has taken a partition, no older owner commits",
        MODEL,
        "a batch was written although a row has another epoch or another offset",
        [Edit("sinks/postgres/checkpoints.py", CHECK, "if row is None or row.next_offset != span.start:")],
    ),
    Mutation(
        "dedupe",
        "totals",
        MODEL,
        "totals() == fold(counted)",
        [
            Edit(
                "sinks/postgres/call_keys.py",
                "duplicates = {*counted_before, *self.first_of}",
                "duplicates = set[int]()",
            )
        ],
    ),
    Mutation(
        "dedupe inside the transaction",
        "totals after an end between two commits",
        MODEL,
        "totals() == fold(counted)",
        [
            Edit(
                "sinks/postgres/write.py",
                "                stored = self._checkpoints.lock(connection, batch)\n"
                "                counted_before = dedupe.insert(connection, staged, during_insert)\n",
                "                counted_before = dedupe.insert(connection, staged, during_insert)\n"
                "            with connection.transaction():\n"
                "                stored = self._checkpoints.lock(connection, batch)\n",
            )
        ],
    ),
    Mutation(
        "look-up of suspected keys",
        "totals when the database was set back",
        REPEATS,
        'counted("lost"), partition=1).counted == 2',
        [
            Edit(
                "sinks/postgres/dedupe.py",
                "                counted_before |= {positions[key]: content_hash for key, content_hash in found}\n",
                "                counted_before |= dict.fromkeys(positions.values())\n",
            )
        ],
    ),
    Mutation(
        "sums of what was inserted, not of what was to be",
        "totals, where another owner has counted a call that this one does not suspect",
        REPEATS,
        'number(db, "SELECT sum(calls) FROM outcome_totals") == 10',
        [Edit("sinks/postgres/write.py", "if repeats != self._repeats:", "if self._repeats is None:")],
    ),
    Mutation(
        "dead letter before the write",
        "no dead letter is missing",
        "dead letters refused",
        Law.DEAD_LETTERS,
        [
            Edit("worker/loop.py", "        self._send_dead_letters(decoded.rejects)\n", ""),
            Edit(
                "worker/loop.py",
                "            self._advance(stored)\n\n",
                "            self._advance(stored)\n            self._send_dead_letters(decoded.rejects)\n\n",
            ),
        ],
    ),
    Mutation(
        "wait for the acknowledgement",
        "no acknowledged call is missing",
        "doors killed",
        Law.ACKNOWLEDGED,
        [Edit("ingest/publisher.py", "        await fate\n", "        fate.cancel()\n")],
    ),
    Mutation(
        "offsets from the table",
        "totals after an end between commit and mirror, or exit code 4",
        "workers killed",
        Law.EXITS,
        [
            Edit(
                "worker/loop.py",
                "        taken = self.sink.take(wishes, self._deadline())\n",
                "        taken = self.sink.take(wishes, self._deadline())\n"
                "        told = self.reader._consumer.committed(self.reader._partitions(taken), timeout=5)\n"
                "        for place in told:\n"
                "            object.__setattr__(taken[place.partition], 'next_offset', max(0, place.offset))\n",
            )
        ],
    ),
    Mutation(
        "callbacks that never raise",
        "every assigned partition reaches the log's end",
        "workers killed",
        Law.PROGRESS,
        [
            Edit(
                "kafka/consumer.py",
                "        self._listener.assigned([p.partition for p in partitions])\n",
                "        if self._listener.assignment.joined:\n"
                "            raise KafkaException(KafkaError(KafkaError._STATE))\n"
                "        self._listener.assigned([p.partition for p in partitions])\n",
            )
        ],
    ),
    Mutation(
        "ending of a frozen session",
        "takeover time",
        "frozen inside COPY",
        Law.TAKEOVER,
        [
            Edit(
                "sinks/postgres/checkpoints.py",
                "                connection.execute(_END_OWNER, arguments)\n",
                "                continue\n",
            )
        ],
    ),
)
