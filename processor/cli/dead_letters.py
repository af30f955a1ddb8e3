"""`call-processor dead-letters`: what was set aside, and sending it again through the topic of calls."""

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from processor import config
from processor.audit.walk import walk
from processor.cli.answering import answering
from processor.cli.log import topics_of
from processor.cli.printable import printable
from processor.config import Settings
from processor.errors import DeadLetterReason, ExitCode, Stop, TooLarge
from processor.kafka.log_reader import LogReader
from processor.kafka.producer import Producer
from processor.kafka.promises import dead_letter_properties
from processor.kafka.properties import connection_properties
from processor.letters import Found, decoded, folded, found

ACK_TIMEOUT_S: Final = 30.0
SHOWN_BYTES: Final = 1024
BROKER: Final = "KAFKA__BOOTSTRAP_SERVERS"

run = typer.Typer(help="Records that can never be counted: list them, look at one, send them again.")
Reason = Annotated[str | None, typer.Option(help="Only those of this reason.")]


@run.command("list")
def list_all(
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=0, help="How many of the newest to name.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """How many by reason and day, and the newest; a record that was set aside twice is one."""
    letters = _chosen(config.load(), reason)
    by_day = Counter((letter.reason, _time(letter)[:10]) for letter in letters)
    newest = letters[len(letters) - min(limit, len(letters)) :]
    if as_json:
        counts = [{"reason": reason, "day": day, "records": n} for (reason, day), n in sorted(by_day.items())]
        typer.echo(json.dumps({"counts": counts, "newest": [_summary(letter) for letter in newest]}))
        return
    if not letters:
        typer.echo("no dead letters")
        return
    counts_table = Table("REASON", "DAY", "RECORDS", box=None, pad_edge=False)
    for (why, day), count in sorted(by_day.items()):
        counts_table.add_row(printable(why), day, f"{count:,}")
    newest_table = Table("LETTER", "TIME", "REASON", "ATTEMPT", "SOURCE", "DETAIL", box=None, pad_edge=False)
    for letter in newest:
        newest_table.add_row(
            letter.id,
            _time(letter),
            *map(printable, (letter.reason, str(letter.attempt), letter.place, letter.detail)),
        )
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False)
    console.print(counts_table)
    console.print()
    console.print(newest_table)


@run.command("show")
def show_one(letter_id: Annotated[str, typer.Argument(help="As `list` names it, for example 0/17.")]) -> None:
    """One letter: headers, bytes, and the call in it as far as it can be read."""
    if not re.fullmatch(r"\d+/\d+", letter_id):
        raise Stop(
            ExitCode.USAGE,
            f"{letter_id} names no dead letter: write partition/offset, for example 0/17, as "
            "`call-processor dead-letters list` does",
        )
    letter = next((one for one in _letters(config.load()) if one.id == letter_id), None)
    if letter is None:
        raise Stop(
            ExitCode.USAGE, f"there is no dead letter {letter_id}: `call-processor dead-letters list` names them"
        )
    for name, value in letter.headers:
        typer.echo(f"{printable(name)}: {_bytes(value.encode() if isinstance(value, str) else value)}")
    typer.echo(f"key: {_bytes(letter.key)}")
    value = letter.value or b""
    typer.echo(f"value: {len(value):,} bytes{', cut' if letter.is_cut else ''}")
    for at in range(0, min(len(value), SHOWN_BYTES), 32):
        typer.echo(f"  {at:08x}  {value[at : at + 32].hex(' ')}")
    fields, problem = decoded(letter.value)
    typer.echo(f"call: {json.dumps(fields, default=str)}")
    if problem is not None:
        typer.echo(f"cannot be read further: {problem}")


@run.command("replay")
def replay(
    reason: Reason = None,
    limit: Annotated[int | None, typer.Option(min=1, help="No more than so many, the oldest first.")] = None,
    max_attempts: Annotated[int, typer.Option(min=1, help="Leave alone what was set aside so often already.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
) -> None:
    """Send records to the topic of calls again. Each call still counts once, however often this is done."""
    settings = config.load()
    letters = _chosen(settings, reason)
    whole = [letter for letter in letters if not letter.is_cut]
    fresh = [letter for letter in whole if letter.attempt < max_attempts][:limit]
    if len(letters) > len(whole):
        typer.echo(f"left alone: {len(letters) - len(whole):,} of which only the beginning was kept")
    if tired := sum(letter.attempt >= max_attempts for letter in whole):
        typer.echo(f"left alone: {tired:,} that were set aside {max_attempts} times already (--max-attempts)")
    if dry_run:
        typer.echo(f"would send {len(fresh):,} records to {settings.kafka.topic}")
        return
    with answering(BROKER):
        typer.echo(f"sent {_send(settings, {letter.id for letter in fresh}):,} records to {settings.kafka.topic}")


def _send(settings: Settings, ids: set[str]) -> int:
    """Read once more, as all of them need not fit into memory. How many were acknowledged; one that is too large with
    the headers of a replay is named and left."""
    if not ids:
        return 0
    connection = connection_properties(settings.kafka, settings.bootstrap_servers())
    producer = Producer(dead_letter_properties(connection, ack_timeout_s=ACK_TIMEOUT_S))
    sent = 0
    try:
        for some in _read(settings):
            sent += _send_some(producer, settings.kafka.topic, [letter for letter in some if letter.id in ids])
    finally:
        producer.close(0)
    return sent


def _send_some(producer: Producer, topic: str, letters: list[Found]) -> int:
    records = [(topic, one.key, one.value, one.headers) for one in (letter.again() for letter in letters)]
    try:
        producer.publish_all(records, ACK_TIMEOUT_S)
    except TooLarge:
        if len(letters) > 1:  # one by one: some are there already, which does no harm
            return sum(_send_some(producer, topic, [letter]) for letter in letters)
        typer.echo(f"left alone: letter {letters[0].id} is too large for {topic} with the headers of a replay")
        return 0
    return len(letters)


def _chosen(settings: Settings, reason: str | None) -> list[Found]:
    """Without their values, which need not fit into memory together."""
    if reason is not None and reason not in {*DeadLetterReason}:
        known = ", ".join(DeadLetterReason)
        raise Stop(ExitCode.USAGE, f"--reason {reason} is no reason of a dead letter: give one of {known}")
    letters = folded(replace(letter, value=None) for letter in _letters(settings))
    return [letter for letter in letters if reason in (None, letter.reason)]


def _letters(settings: Settings) -> Iterator[Found]:
    for some in _read(settings):
        yield from some


def _read(settings: Settings) -> Iterator[list[Found]]:
    """All that are on the dead-letter topic now, as many at a time as one read brings."""
    with answering(BROKER):
        bounds = topics_of(settings).bounds(settings.kafka.dead_letters)
        connection = connection_properties(settings.kafka, settings.bootstrap_servers())
        with closing(LogReader(connection, settings.kafka.group, settings.kafka.dead_letters)) as reader:
            starts = {partition: start for partition, (start, _) in bounds.items()}
            ends = {partition: end for partition, (_, end) in bounds.items()}
            for passages in walk(reader, starts, ends, time.monotonic):
                yield [found(record) for passage in passages for record in passage.records]


def _summary(letter: Found) -> dict[str, object]:
    return {
        "letter": letter.id, "time": _time(letter), "reason": letter.reason, "attempt": letter.attempt,
        "source": letter.place, "detail": letter.detail,
    }  # fmt: skip


def _time(letter: Found) -> str:
    return f"{datetime.fromtimestamp(letter.time_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _bytes(value: bytes | None) -> str:
    if value is None:
        return "none"
    text = value.decode(errors="replace")
    return text if text.isprintable() and "\ufffd" not in text else value.hex(" ")
