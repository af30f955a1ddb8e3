"""Files that change under a running door, as a mounted secret does: by a swap of symbolic links."""

import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final, Self

LOOK_EVERY_S: Final = 1.0

Version = tuple[tuple[int, ...], ...]  # what changes when a file does


class WatchedFiles(ABC):
    """Looks at its files in a thread of its own, so that neither a slow disk nor a large file holds the event loop.

    A context manager: when it is entered, the files were looked at once; leaving it ends the thread.
    """

    def __init__(self, *paths: Path, look_every_s: float = LOOK_EVERY_S) -> None:
        self._paths = paths
        self._look_every_s = look_every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=type(self).__name__, daemon=True)

    def __enter__(self) -> Self:
        self.look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @abstractmethod
    def look(self) -> None:
        """Take the files if they have changed. Never raises."""

    def _version(self) -> Version:
        """`OSError` if one of the files cannot be looked at."""
        stats = [path.stat() for path in self._paths]
        return tuple((stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)

    def _watch(self) -> None:
        while not self._stop.wait(self._look_every_s):
            self.look()
