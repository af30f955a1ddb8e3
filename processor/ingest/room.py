"""How many connections the door holds at a time: fewer than the process may open files.

Were the door to take the last descriptor, nobody could ask whether the process lives, and it would be killed for being
busy; nor could it reach a broker that has come back, or read a new key file.
"""

import resource
from typing import Final

from processor.errors import ExitCode, Stop

WANTED_FILES: Final = 16_384  # 10,000 requests in flight and as many connections that rest; a few KiB each
OTHER_FILES: Final = 128  # probes and scrapes, a connection to each broker, files
EXCESS: Final = 64  # connections beyond the room that are being told so; further ones are hung up on
LEAST_FILES: Final = 2 * (OTHER_FILES + EXCESS)


def make_room() -> int:
    """The most connections, after the limit of open files was raised as far as is wanted and allowed; `Stop` (USAGE) if
    it is too low to serve with.

    The limit that a process is started with is low for the sake of programs that use select(2); the door does not.
    """
    files, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _lesser(WANTED_FILES, hard)
    if files != resource.RLIM_INFINITY and files < wanted:
        files = _raise_to(wanted, files, hard)
    if 0 <= files < LEAST_FILES:
        raise Stop(
            ExitCode.USAGE, f"this process may open {files} files: let it open {LEAST_FILES} (ulimit -n) at least"
        )
    return _lesser(WANTED_FILES, files) - OTHER_FILES - EXCESS


def _lesser(count: int, limit: int) -> int:
    return count if limit == resource.RLIM_INFINITY else min(count, limit)


def _raise_to(wanted: int, files: int, hard: int) -> int:
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS has a lower limit that it does not tell
        return files
    return wanted
