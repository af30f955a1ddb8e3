"""python -m tests.mutants.scenario NAME: one short run; prints what is wrong, a line each."""

import sys
import tempfile
from pathlib import Path

from tests.chaos.run import Plan, run
from tests.mutants.scenarios import COUNTED_WITHIN_S, EVENTS, SCENARIOS


def main(name: str) -> int:
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        plan = Plan(name, 1, EVENTS, SCENARIOS[name], counted_within_s=COUNTED_WITHIN_S)
        report = run(plan, Path(folder))
    for problem in report.problems:
        sys.stdout.write(f"{problem}\n")
    return bool(report.problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
