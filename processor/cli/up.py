"""`call-processor up`: everything on this machine, until Ctrl-C."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from processor import config
from processor.config import STATE
from processor.embedded.stack import Stack
from processor.supervise import Interrupted, Interrupts, call_processor


def run(
    workers: Annotated[int, typer.Option(min=1, help="how many workers")] = 2,
    state: Annotated[Path, typer.Option(help="folder for the embedded servers' state")] = STATE,
    fresh: Annotated[bool, typer.Option("--fresh", help="forget what the embedded servers had stored")] = False,
) -> None:
    """Start Kafka, PostgreSQL, the door and workers; one JSON line on stdout when all is ready; stop all at Ctrl-C.

    SIGTERM does the same as Ctrl-C: a shell script starts what it puts behind itself with `&` deaf to Ctrl-C. For other
    commands in another shell, the file `env` in the state folder leads to these servers while they run.

    A configured broker (KAFKA__BOOTSTRAP_SERVERS) or database (POSTGRES__DSN) is used instead of an embedded one.
    """
    settings = config.load()
    try:
        with (
            Interrupts() as interrupts,
            Stack(state, settings, say, impatient=lambda: interrupts.impatient) as stack,
        ):
            start(stack, workers=workers, fresh=fresh)
            stack.supervisor.run(interrupts)
    except Interrupted:
        say("all stopped")


def start(stack: Stack, *, workers: int, fresh: bool) -> None:
    if fresh:
        stack.forget()
    stack.start_servers()
    stack.prepare()
    stack.start_roles(workers=workers)
    say(f"in another shell: {look_line(stack)}")
    sys.stdout.write(json.dumps(stack.report()) + "\n")
    sys.stdout.flush()


def look_line(stack: Stack) -> str:
    """A command to paste, for another shell: what it exports serves every command of ours."""
    path = stack.write_env_file()
    return f". {shlex.quote(str(path))} && {shlex.join(call_processor())} usage --by total"


def say(sentence: str) -> None:
    sys.stderr.write(f"up: {sentence}\n")
    sys.stderr.flush()
