"""A look at the totals of a database from outside, as a fold of calls gives them."""

import datetime as dt
from typing import Any, Final

import psycopg

from processor.calls import USAGE_FIELDS
from processor.counting.totals import CallKind, Key, Totals
from processor.sinks.base import LogIdentity

LOG: Final = LogIdentity("cluster", "topic-id", "llm-call-end", "call-processor")


def stored_totals(dsn: str) -> Totals:
    with psycopg.connect(dsn) as connection:
        return totals_in(connection)


def totals_in(connection: psycopg.Connection[Any]) -> Totals:
    usage, statuses, outcomes = (
        connection.execute(f"SELECT project_id, hour, {name}, call_kind, {numbers} FROM {table}").fetchall()
        for table, name, numbers in (
            ("usage_totals", "model", ", ".join(("calls", *USAGE_FIELDS))),
            ("status_totals", "status", "count"),
            ("outcome_totals", "outcome", "calls"),
        )
    )
    return Totals(
        {_key(row): tuple(map(int, row[4:])) for row in usage},
        {_key(row): int(row[4]) for row in statuses},
        {_key(row): int(row[4]) for row in outcomes},
    )


def _key(row: tuple[Any, ...]) -> Key:
    hour = row[1] - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return row[0], hour // dt.timedelta(hours=1), row[2], CallKind(row[3])
