"""The guard of speed turns red when the program has become slow, and only then."""

import os
import subprocess
import sys

import pytest

from tests.mutants.__main__ import copy
from tests.mutants.mutations import Edit, Mutation

pytestmark = [pytest.mark.long, pytest.mark.stack, pytest.mark.timeout(900)]

# Four times as long as all that was done since it last slept, so that it is seen on slow and busy machines too; at most
# so long that PostgreSQL does not end the transaction in which it is.
SLEEP = """\
        import time
        now_s = time.monotonic()
        time.sleep(min(3.5, 4 * (now_s - globals().get("woke_s", now_s))))
        globals()["woke_s"] = time.monotonic()
"""
FOLD = "        columns = self._columns\n        counted = np.zeros"
SLOW_FOLD = Edit("counting/columns.py", FOLD, SLEEP + FOLD)
SLOW_HANDLER = Edit(
    "ingest/app.py",
    "        self._intake.judge()\n",
    "        self._intake.judge()\n        await asyncio.sleep(0.2)\n",
)


def guarded(part: str, *edits: Edit) -> "subprocess.CompletedProcess[str]":
    with copy(Mutation("none", "speed", "bench", "", edits)) as tree:
        command = [sys.executable, "-m", "bench", "--quick", "--only", part]
        return subprocess.run(command, cwd=tree, env=os.environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("part", ["worker", "door"])
def test_the_guard_is_green_for_the_program_as_it_is(part: str) -> None:
    ended = guarded(part)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(("part", "edit"), [("worker", SLOW_FOLD), ("door", SLOW_HANDLER)])
def test_a_sleep_in_the_fold_or_in_the_handler_turns_the_guard_red(part: str, edit: Edit) -> None:
    ended = guarded(part, edit)
    assert ended.returncode == 1, ended.stderr
    assert f"COLLAPSED  {part}: " in ended.stderr
