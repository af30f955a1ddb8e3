"""`make release-check`: what must hold before a version is published, as far as one machine can tell.

make release-check                                  of the version that the program says
make release-check ARGS="--tag v1.2.3 --into dist"  as the release workflow does it; dist/ holds what is published
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.release.checks import ROOT, problems


def main() -> int:
    parser = argparse.ArgumentParser(prog="make release-check", description=__doc__)
    parser.add_argument("--tag", help="the tag that is to be published, v<version>")
    parser.add_argument("--into", type=Path, help="where the sdist and the wheel go (default: nowhere)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = problems(ROOT, options.into or Path(temporary), options.tag)
    for problem in found:
        sys.stdout.write(f"not ready: {problem}\n")
    if not found:
        sys.stdout.write("ready\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
