"""The dashboards as they lie in the chart, and their panels' queries with Grafana's variables filled in."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parents[1] / "helm" / "files" / "dashboards"
FILES: Final = sorted(FOLDER.glob("*.json"))
RANGE: Final = {"$__rate_interval": "1m", "$namespace": ".*"}
ALL_TIME: Final = "hour BETWEEN '2000-01-01T00:00:00Z' AND '2100-01-01T00:00:00Z'"
ALL_PROJECTS: Final = "SELECT project_id FROM usage_hourly"


@dataclass(frozen=True, slots=True)
class Query:
    """`text`: as it is written, variables and all."""

    panel: str
    text: str

    @property
    def promql(self) -> str:
        text = self.text
        for variable, value in RANGE.items():
            text = text.replace(variable, value)
        return text

    @property
    def sql(self) -> str:
        """For all time and every project."""
        return self.text.replace("$__timeFilter(hour)", ALL_TIME).replace("$project", ALL_PROJECTS)


def load(file: Path) -> dict[str, Any]:
    board: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return board


def panels(file: Path) -> list[dict[str, Any]]:
    return [panel for panel in load(file)["panels"] if panel["type"] != "row"]


def promql() -> Iterator[Query]:
    yield from _queries("expr")


def sql() -> list[Query]:
    return list(_queries("rawSql"))


def _queries(key: str) -> Iterator[Query]:
    for file in FILES:
        for panel in panels(file):
            for target in panel["targets"]:
                if key in target:
                    yield Query(panel["title"], target[key])
