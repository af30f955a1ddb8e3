"""helm/README.md: a frame of prose, the table of values from the comments of values.yaml, the settings of `config`."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from yaml import MappingNode, compose

from processor.config import PREFIX
from tests.chart.helm import CHART, defaults
from tests.chart.settings import OWNED, sections

FRAME: Final = CHART / "README.md.frame"


@dataclass(frozen=True, slots=True)
class Value:
    path: str
    description: str  # "": it is described where its map is
    default: object
    is_map: bool  # with keys of its own
    section: str


def readme() -> str:
    frame = FRAME.read_text(encoding="utf-8")
    return frame.replace("<!-- values -->", "\n".join(_tables())).replace("<!-- settings -->", "\n".join(_settings()))


def values() -> list[Value]:
    """Every key of values.yaml, in its order."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    node = compose(text)
    assert isinstance(node, MappingNode)
    return list(_values(node, "", text.splitlines(), defaults()))


def _values(node: MappingNode, path: str, lines: list[str], plain: Mapping[str, Any]) -> Iterator[Value]:
    for key, value in node.value:
        here = f"{path}{key.value}"
        line = key.start_mark.line
        is_map = isinstance(value, MappingNode) and bool(value.value) and value.flow_style is False
        yield Value(here, _description(lines, line), plain[key.value], is_map, _section(lines, line))
        if is_map:
            yield from _values(value, f"{here}.", lines, plain[key.value])


def _description(lines: list[str], line: int) -> str:
    found = re.fullmatch(r"\s*# -- (.*)", lines[line - 1]) if line else None
    return found[1] if found else ""


def _section(lines: list[str], line: int) -> str:
    return next((found[1] for one in lines[line::-1] if (found := re.fullmatch(r"# == (.*)", one))), "")


def _tables() -> Iterator[str]:
    """A map whose keys are not described is one row; where they are, its own row comes first, without a default."""
    all_values = values()
    section = ""
    for value in all_values:
        if not value.description:
            continue
        if value.section != section:
            section = value.section
            yield f"\n### {section}\n\n| value | default | what it is |\n|---|---|---|"
        inside = [one for one in all_values if one.path.startswith(f"{value.path}.") and one.description]
        shown = "" if inside else f"`{json.dumps(value.default)}`"
        yield f"| `{value.path}` | {shown} | {value.description} |"


def _settings() -> Iterator[str]:
    yield "| value | environment | default | what it is |\n|---|---|---|---|"
    for section, model in sections().items():
        for name, field in model.model_fields.items():
            setting = f"{section}__{name}".upper()
            if setting not in OWNED:
                default = "" if field.default is None else f"`{json.dumps(field.default)}`"
                yield f"| `config.{section}.{name}` | `{PREFIX}{setting}` | {default} | {field.description} |"
