"""`call-processor demo`: LLM calls through everything, and the stored totals compared with what was sent."""

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from processor import config
from processor.cli.exercise import exercise
from processor.cli.up import look_line
from processor.config import STATE, Log, Settings
from processor.embedded.stack import Stack
from processor.errors import ExitCode, Stop, Unavailable
from processor.sample.comparison import Comparison
from processor.sample.printed import counters_line, sent_line, servers_line, table, verdict
from processor.sample.traces import example
from processor.supervise import Interrupted, Interrupts, call_processor

INTERRUPTED: Final = 130  # what shells say of a command that Ctrl-C ended before it could finish


def run(
    once: Annotated[bool, typer.Option("--once", help="stop after the comparison")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="forget what the embedded servers had stored")] = False,
    calls: Annotated[int, typer.Option(min=1, help="how many different calls are sent")] = 2000,
    workers: Annotated[int, typer.Option(min=1, help="how many workers")] = 2,
    state: Annotated[Path, typer.Option(help="folder for the embedded servers' state")] = STATE,
) -> None:
    """Start everything, send calls as the SDK does, compare what is stored with what was sent (exit code 1 if it
    differs); then stay up until Ctrl-C, or SIGTERM: a shell script starts what it puts behind itself with `&` deaf to
    Ctrl-C.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)  # puts text above a progress bar, if there is one

    def say(sentence: str) -> None:
        console.print(f"demo: {sentence}", markup=False)

    comparison = None
    try:
        with (
            Interrupts() as interrupts,
            Stack(state, quiet(for_samples(config.load())), say, impatient=lambda: interrupts.impatient) as stack,
        ):
            start(stack, workers=workers, fresh=fresh)
            comparison = exercise(stack, calls, console)
            tell(comparison)
            if not once:
                typer.echo(f"try:  {curl_line(stack)}")
                typer.echo(f"look: {look_line(stack)}")
                say("stays up; Ctrl-C stops everything, and what is stored stays")
                stack.supervisor.run(interrupts)
    except Interrupted:
        say("all stopped")
    except Unavailable as error:
        raise Stop(ExitCode.DEPENDENCY, f"{error}: the messages above may say why") from error
    if comparison is None:
        raise typer.Exit(INTERRUPTED)
    if stack.postgres is not None:
        again = shlex.join([*call_processor(), "up", *([] if state == STATE else ["--state", str(state)])])
        say(f"what was stored stays in {state}; to look at it again: {again}")
    if comparison.problems:
        raise typer.Exit(ExitCode.NUMBERS_DIFFER)


def for_samples(settings: Settings) -> Settings:
    """The sample's clients have no keys, and do not know the door's certificate."""
    if settings.ingest.tls_cert_file is not None:
        raise Stop(
            ExitCode.USAGE,
            f"the demo posts without TLS: unset {config.PREFIX}INGEST__TLS_CERT_FILE and its key, or use `up` instead",
        )
    if settings.ingest.keys_file is not None:
        raise Stop(
            ExitCode.USAGE, f"the demo posts without a key: unset {config.PREFIX}INGEST__KEYS_FILE, or use `up` instead"
        )
    return settings


def quiet(settings: Settings) -> Settings:
    """Unless told otherwise, the children say only what is wrong, and to a person."""
    told = settings.log.model_fields_set
    return settings if told else settings.model_copy(update={"log": Log(format="console", level="warning")})


def start(stack: Stack, *, workers: int, fresh: bool) -> None:
    if fresh:
        stack.forget()
    stack.start_servers()
    stack.prepare()
    stack.start_roles(workers=workers)
    servers = [
        (f"{server.name} {server.version}", f"127.0.0.1:{server.port}", server.start_seconds)
        for server in (stack.kafka, stack.postgres)
        if server is not None
    ]
    typer.echo(servers_line(servers, stack.ingest_url, workers))


def tell(comparison: Comparison) -> None:
    typer.echo(sent_line(comparison.answers))
    for line in table(comparison.gained_usage()):
        typer.echo(line)
    typer.echo(counters_line(comparison.counters))
    for line in verdict(comparison.problems, comparison.expected):
        typer.echo(line)


def curl_line(stack: Stack) -> str:
    """A command to paste; its call is of now, and the door takes it for weeks."""
    path = stack.state_dir / "sample-call.json"
    path.write_text(json.dumps({"end": example(datetime.now(UTC))}, indent=2) + "\n", encoding="utf-8")
    at = shlex.quote(f"@{path}")
    return f"curl -s {stack.ingest_url}/call/end -H 'content-type: application/json' -d {at}"
