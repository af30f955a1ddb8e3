"""`call-processor keys`: make an API key, hash one, check the key file."""

import json
import secrets
import sys
import tomllib
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from processor import config
from processor.errors import ExitCode, Stop
from processor.ingest.key_file import BrokenKeyFile, Key, parse_keys

KEY_BYTES: Final = 32
LEAST_KEY_BYTES: Final = 20  # a digest without salt protects only what cannot be guessed

run = typer.Typer(help="Make an API key, hash one that you have, check the key file.", no_args_is_help=True)


@run.command()
def new(
    name: Annotated[str, typer.Argument(help="How logs and `keys check` call it: team, purpose, year.")],
    project: Annotated[list[str], typer.Option(help="entity/project it may post to; *, ? and [...] as in a shell.")],
    expires_at: Annotated[
        str | None, typer.Option(help="RFC 3339, for example 2027-01-01T00:00:00Z; never, if absent.")
    ] = None,
) -> None:
    """Print a new key, once, on stderr, and on stdout the entry for the key file."""
    _refuse_bad_expiry(expires_at, datetime.now(UTC))
    key = f"cp_{secrets.token_urlsafe(KEY_BYTES)}"
    entry = _entry(name, key, project, expires_at)
    _checked(entry.encode(), "the key")
    sys.stderr.write(f"{key}\n")
    typer.echo(entry, nl=False)


@run.command("hash")
def hash_key() -> None:
    """Print the SHA-256 of the key on stdin (never an argument: those are seen by everybody on the machine)."""
    key = sys.stdin.buffer.read().rstrip(b"\r\n")
    if len(key) < LEAST_KEY_BYTES:
        raise Stop(
            ExitCode.USAGE,
            f"the key on stdin must have at least {LEAST_KEY_BYTES} bytes: its digest would not hide a shorter one",
        )
    typer.echo(sha256(key).hexdigest())


@run.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="A key file; INGEST__KEYS_FILE if absent.")] = None,
) -> None:
    """Name every problem of a key file (exit code 2), or show who may post to which projects until when."""
    path = file or config.load().ingest.keys_file
    if path is None:
        raise Stop(ExitCode.USAGE, f"give a file, or set {config.PREFIX}INGEST__KEYS_FILE")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Stop(
            ExitCode.USAGE, f"the key file cannot be read ({error.strerror}): check its path and owner"
        ) from None
    Console().print(_table(_checked(content, "the key file"), datetime.now(UTC)))


def _refuse_bad_expiry(text: str | None, now: datetime) -> None:
    """The entry is text that goes into a TOML file: nothing else than a time may be in it, and one that is to come."""
    if text is None:
        return
    try:
        read = tomllib.loads(f"time = {text}")
    except ValueError:
        read = {}
    time = read.get("time")
    if len(read) > 1 or not isinstance(time, datetime) or time.tzinfo is None:
        raise Stop(
            ExitCode.USAGE, f"--expires-at {text} is no time as in RFC 3339 with a zone: write 2027-01-01T00:00:00Z"
        )
    if time <= now:
        raise Stop(ExitCode.USAGE, f"--expires-at {text} has passed: the key would never be valid")


def _entry(name: str, key: str, projects: Iterable[str], expires_at: str | None) -> str:
    """JSON's strings are TOML's, and so is this list."""
    lines = [f"[keys.{json.dumps(name, ensure_ascii=False)}]", f'sha256 = "{sha256(key.encode()).hexdigest()}"']
    lines.append(f"projects = {json.dumps([*projects], ensure_ascii=False)}")
    if expires_at is not None:
        lines.append(f"expires_at = {expires_at}")
    return "\n".join(lines) + "\n"


def _checked(content: bytes, what: str) -> tuple[Key, ...]:
    try:
        return parse_keys(content)
    except BrokenKeyFile as error:
        raise Stop(ExitCode.USAGE, f"{what} is not valid:\n  " + "\n  ".join(error.problems)) from None


def _table(keys: Iterable[Key], now: datetime) -> Table:
    table = Table("KEY", "PROJECTS", "EXPIRES", box=None, pad_edge=False)
    for key in keys:
        expires = "never" if key.expires_at is None else key.expires_at.isoformat()
        table.add_row(key.id, ", ".join(key.projects), f"{expires} (expired)" if key.is_expired(now) else expires)
    return table
