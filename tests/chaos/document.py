"""Reports in a document: each stands between marks that name the command which made it."""

import re
from pathlib import Path
from typing import Final

END: Final = "<!-- /report -->"


def put(document: Path, command: str, report: str) -> None:
    """Replace the report of this command; `LookupError` if the document has no place for it."""
    text = document.read_text(encoding="utf-8")
    begin = f"<!-- report of `{command}` -->"
    place = re.compile(re.escape(begin) + ".*?" + re.escape(END), re.DOTALL)
    if not place.search(text):
        raise LookupError(f"{document} has no place for this report:\n{begin}\n{END}")
    block = f"{begin}\n```text\n{report.rstrip()}\n```\n{END}"
    document.write_text(place.sub(lambda _: block, text), encoding="utf-8")
