"""Files that are written by `make chart` and committed; test_generated.py compares them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import yaml

from tests.chart.helm import CHART, render
from tests.chart.readme import readme
from tests.chart.settings import config_schema

SCHEMA: Final = CHART / "values.schema.json"


def schema() -> str:
    """As it is, with the part that follows from the settings made anew."""
    values = json.loads(SCHEMA.read_text(encoding="utf-8"))
    values["definitions"]["config"] = config_schema()
    return json.dumps(values, indent=2) + "\n"


def snapshot() -> str:
    """All that an install without any value would send."""
    return yaml.safe_dump_all(render().manifests, sort_keys=True, width=120)


GENERATED: Final[Mapping[Path, Callable[[], str]]] = {
    SCHEMA: schema,
    CHART / "README.md": readme,
    Path(__file__).parent / "default.yaml": snapshot,
}
