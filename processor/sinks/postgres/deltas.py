"""What a batch adds to the three tables of totals, ready to be sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from processor.calls import USAGE_FIELDS
from processor.counting.totals import Key, Totals
from processor.sinks.postgres.arrays import Bigints, Texts
from processor.sinks.postgres.connection import Connection


@dataclass(frozen=True, slots=True)
class Deltas:
    """Of one table: what is added to the row of each key, in the order of the keys, so that two workers lock common
    rows in one order."""

    table: str
    name: str  # the column of a key's third part
    numbers: Sequence[str]
    columns: Sequence[Texts | Bigints]  # project_id, hour, name, call_kind, numbers

    def add(self, connection: Connection) -> None:
        kinds = ["text[]", "bigint[]", "text[]", "text[]"] + ["bigint[]"] * len(self.numbers)
        numbers = ", ".join(self.numbers)
        added = ", ".join(f"{number} = {self.table}.{number} + excluded.{number}" for number in self.numbers)
        connection.execute(
            f"INSERT INTO {self.table} (project_id, hour, {self.name}, call_kind, {numbers})"
            f" SELECT project_id, to_timestamp(hour * 3600), {self.name}, call_kind, {numbers}"
            f" FROM unnest({', '.join(f'%b::{kind}' for kind in kinds)})"
            f" AS delta(project_id, hour, {self.name}, call_kind, {numbers})"
            f" ON CONFLICT (project_id, hour, {self.name}, call_kind) DO UPDATE"
            f" SET {added}, updated_at = now()",
            self.columns,
        )


def deltas_of(totals: Totals) -> list[Deltas]:
    """Of the tables that get any."""
    found = (
        _deltas("usage_totals", "model", ("calls", *USAGE_FIELDS), totals.usage),
        _deltas("status_totals", "status", ("count",), totals.statuses),
        _deltas("outcome_totals", "outcome", ("calls",), totals.outcomes),
    )
    return [deltas for deltas in found if deltas is not None]


def _deltas(
    table: str, name: str, numbers: Sequence[str], deltas: Mapping[Key, int | tuple[int, ...]]
) -> Deltas | None:
    if not deltas:
        return None
    keys = sorted(deltas)  # by code points: the order of UTF-8 bytes, as the tables' collation
    projects, hours, names, kinds = zip(*keys, strict=True)
    added = np.array([deltas[key] for key in keys], np.int64).reshape(len(keys), -1)
    named = Texts(projects), Bigints(np.array(hours, np.int64)), Texts(names), Texts(kinds)
    return Deltas(table, name, numbers, (*named, *map(Bigints, added.T)))
