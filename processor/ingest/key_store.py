"""The key file as it changes: a mounted secret is replaced under a running door, by a swap of symbolic links."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from processor.config import PREFIX
from processor.ingest.auth import Keys
from processor.ingest.key_file import BrokenKeyFile, parse_keys
from processor.ingest.watched_files import LOOK_EVERY_S, Version, WatchedFiles

log = structlog.get_logger(__name__)

SHOWN_PROBLEMS: Final = 20

OnLook = Callable[[Keys | None, bool], None]  # the keys in force, whether the file as it is now is broken


class KeyStore(WatchedFiles):
    """`current` is what the last sound file held, None before there was one: who breaks the file locks nobody out."""

    def __init__(self, path: Path, on_look: OnLook = lambda *_: None, look_every_s: float = LOOK_EVERY_S) -> None:
        super().__init__(path, look_every_s=look_every_s)
        self._path = path
        self._on_look = on_look
        self._keys: Keys | None = None
        self._seen: Version | None = None
        self._problem = ""

    def current(self) -> Keys | None:
        return self._keys

    @property
    def broken(self) -> bool:
        """Whether the file, as it was last looked at, cannot be used."""
        return bool(self._problem)

    def look(self) -> None:
        """Take the file if it has changed. What is wrong with it is said once for each change."""
        try:
            version = self._version()
            if version == self._seen:
                return
            self._seen = version
            self._keys = Keys(parse_keys(self._path.read_bytes()))
        except OSError as error:
            self._seen = None
            self._broken(f"it cannot be read: {error.strerror}")
        except BrokenKeyFile as error:
            rest = len(error.problems) - SHOWN_PROBLEMS
            more = f"; and {rest} more: see `call-processor keys check`" if rest > 0 else ""
            self._broken("; ".join(error.problems[:SHOWN_PROBLEMS]) + more)
        else:
            self._problem = ""
            log.info("keys read", keys=len(self._keys))
        self._on_look(self._keys, self.broken)

    def _broken(self, problem: str) -> None:
        if problem == self._problem:
            return
        self._problem = problem
        consequence = "nobody is let in (503)" if self._keys is None else "the keys read before stay in force"
        log.error(f"{PREFIX}INGEST__KEYS_FILE is broken: {consequence}", problem=problem)
