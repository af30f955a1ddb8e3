"""What the commands share that do not wait for a server that is away."""

from collections.abc import Iterator
from contextlib import contextmanager

from processor.config import PREFIX
from processor.errors import ExitCode, Stop, Unavailable


@contextmanager
def answering(setting: str = "POSTGRES__DSN") -> Iterator[None]:
    """`Unavailable` becomes a sentence that names the setting to look at, and exit code 3."""
    try:
        yield
    except Unavailable as error:
        raise Stop(ExitCode.DEPENDENCY, f"{error}: check {PREFIX}{setting} and that the server runs") from error
