"""What the README says of the settings is what the settings say."""

import re

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from processor.cli.config import shown
from processor.config import PREFIX, Settings
from tests.documents import ROOT, blocks
from tests.integration.test_demo import SHAPE


def settings_table() -> str:
    lines = ["| setting | default | what it is |", "|---|---|---|"]
    for section, part in Settings.model_fields.items():
        assert isinstance(part.default, BaseModel)
        for name, field in type(part.default).model_fields.items():
            default = "" if field.default in (None, PydanticUndefined) else f"`{shown(field.default)}`"
            lines.append(f"| `{PREFIX}{section.upper()}__{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def test_the_readme_has_every_setting_as_it_is() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"<!-- settings -->\n(.*)<!-- /settings -->", readme, re.DOTALL)
    assert table
    assert table[1].strip() == settings_table(), "put this between the marks in README.md:\n" + settings_table()


def test_every_file_that_the_documents_link_to_or_name_as_proof_is_there() -> None:
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        text = document.read_text(encoding="utf-8")
        links = {
            document.parent / link.partition("#")[0] for link in re.findall(r"\]\(([^):]+)\)", text) if link[0] != "#"
        }
        named = {ROOT / name for name in re.findall(r"`(tests/[\w/]+\.py)`", text)}
        missing = [str(path) for path in links | named if not path.exists()]
        assert not missing, f"{document.name} names {missing}"


def test_the_readme_shows_the_lines_that_the_demo_prints() -> None:
    (shown,) = (block.shows for block in blocks("README.md") if block.code.startswith("make demo"))
    assert shown is not None
    for line in shown.splitlines():
        assert line == "..." or any(re.fullmatch(shape, line) for shape in SHAPE), line
