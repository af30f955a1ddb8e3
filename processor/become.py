"""The tiny program that every child of ours is for a moment: it ties its life to ours, then becomes the command.

Run as a file, so it imports nothing of the package and little else. See `child.spawn`.
"""

import os
import sys
import time
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
WATCH_INTERVAL_S = 0.5


def become(parent: int, death_signal: int, user: str, cwd: str, command: list[str]) -> None:
    """The order matters: everything that is imported or entered comes before the change of user (who may not be allowed
    to); the kernel's note comes after that, which would clear it, and before `exec`, which keeps it."""
    die_with = _die_with_kernel() if sys.platform == "linux" else _die_with_watcher
    if cwd:
        os.chdir(cwd)
    if user:
        _change_user(*map(int, user.split(":")))
    die_with(parent, death_signal)
    if os.getppid() != parent:  # it died before we asked to be told
        sys.exit(128 + death_signal)
    os.execvp(command[0], command)  # noqa: S606  # a list, no shell


def _change_user(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _die_with_kernel() -> Callable[[int, int], None]:
    import ctypes  # noqa: PLC0415

    libc = ctypes.CDLL(None, use_errno=True)

    def die_with(_parent: int, death_signal: int) -> None:
        if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")

    return die_with


def _die_with_watcher(parent: int, death_signal: int) -> None:
    """Leave a grandchild behind that signals this process when the parent is gone."""
    target = os.getpid()
    first = os.fork()
    if first:
        os.waitpid(first, 0)
        return
    if os.fork() == 0:
        os.setsid()
        while _alive(target):
            if not _alive(parent):
                os.kill(target, death_signal)
                break
            time.sleep(WATCH_INTERVAL_S)
    os._exit(0)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main(parent: str, death_signal: str, user: str, cwd: str, *command: str) -> None:
    try:
        become(int(parent), int(death_signal), user, cwd, list(command))
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error}\n")
        sys.exit(127)


if __name__ == "__main__":
    main(*sys.argv[1:])
