"""The command `call-processor`: one file per command; a `Stop` becomes a sentence on stderr and an exit code."""

import gc
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Annotated, Final

import typer

from processor import __version__
from processor.errors import Defect, ExitCode, Stop

DEFECT: Final = 70  # EX_SOFTWARE of sysexits.h: no exit code that means something else

# In the order of `--help`; each is processor/cli/<name>.py, with _ for -, which has a function, or a group of commands,
# `run`.
COMMANDS: Final = (
    "up", "demo", "ingest", "worker", "topics", "migrate", "usage", "status", "verify", "rebuild", "maintain",
    "checkpoints", "resume", "dead-letters", "keys", "config",
)  # fmt: skip


def main() -> None:
    try:
        gc.disable()  # what is imported stays: to look through all of it, now and at the end, took a fifth of a start
        command = build(sys.argv[1:])
        gc.freeze()
        gc.enable()
        command()
    except Stop as stop:
        sys.stderr.write(f"call-processor: {stop}\n")
        sys.exit(stop.exit_code)
    except Exception as error:  # noqa: BLE001  # the end of every command
        sys.stderr.write(_defect(error))
        sys.exit(DEFECT)


def _defect(error: BaseException) -> str:
    """Where it came from. Its text only if it is ours: any other may quote what a client sent, or a secret."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    what = str(error) if isinstance(error, Defect) else f"{type(error).__name__} at the place above"
    return f"{frames}call-processor: a defect, {what}; please report it\n"


def build(arguments: Sequence[str]) -> typer.Typer:
    """The application for these arguments: imports no more than the command that they name needs."""
    app = typer.Typer(
        name="call-processor",
        help="LLM calls in, exact totals out: finished calls of the Weave service API, through Kafka, into totals.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)  # with one command only, typer would take the command's name for an argument
    for name in arguments[:1] if arguments[:1] and arguments[0] in COMMANDS else COMMANDS:
        command = _module(name).run
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"call-processor {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[  # its callback ends the program
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """What is said before a command."""


def _module(name: str) -> ModuleType:
    try:
        return import_module(f"processor.cli.{name.replace('-', '_')}")
    except ImportError as error:
        raise Stop(
            ExitCode.DEPENDENCY,
            f"{error.name or 'a library'} cannot be imported ({error}): install call-processor again, on a platform "
            "that its native libraries have wheels for",
        ) from error
