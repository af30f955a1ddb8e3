"""Dashboards that can be imported anywhere, ask only of what there is, and ask the database as docs/sql.md does."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from tests import dashboards
from tests.documents import blocks
from tests.rules import selectors
from tests.unit.test_rules import DECLARED


def test_there_is_one_for_each_purpose() -> None:
    assert [file.stem for file in dashboards.FILES] == ["accounting", "ingest", "usage", "worker"]


@pytest.mark.parametrize("file", dashboards.FILES, ids=lambda file: file.stem)
def test_a_dashboard_has_no_data_source_of_its_own_and_says_what_each_panel_is(file: Path) -> None:
    board = dashboards.load(file)
    assert board["uid"] == f"call-processor-{file.stem}"
    assert board["templating"]["list"][0]["type"] == "datasource"
    assert set(re.findall(r'"uid": "([^"]+)"', file.read_text(encoding="utf-8"))) == {"${datasource}", board["uid"]}
    numbers = Counter(panel["id"] for panel in board["panels"])
    assert max(numbers.values()) == 1
    titles = [panel["title"] for panel in dashboards.panels(file)]
    assert len(titles) == len(set(titles))
    assert not [panel["title"] for panel in dashboards.panels(file) if not panel["description"].endswith(".")]


@pytest.mark.parametrize("file", dashboards.FILES, ids=lambda file: file.stem)
def test_a_dashboard_is_written_so_that_a_change_of_it_can_be_read(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == json.dumps(dashboards.load(file), indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("file", dashboards.FILES, ids=lambda file: file.stem)
def test_no_two_panels_overlap(file: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboards.load(file)["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_panels_ask_only_of_metrics_that_are_declared() -> None:
    for query in dashboards.promql():
        for selector in selectors(query.promql):
            name, _, labels = selector.partition("{")
            if name.startswith("process_"):
                continue
            declared = DECLARED.get(name) or DECLARED[re.sub(r"_(bucket|sum|count)$", "", name)]
            asked = set(re.findall(r"(\w+)\s*(?:=|!)", labels)) - {"namespace"}
            assert asked <= set(declared.labels), f"{query.panel}: {selector}"


def test_every_metric_that_counts_something_is_on_a_dashboard() -> None:
    shown = {s.partition("{")[0] for query in dashboards.promql() for s in selectors(query.promql)}
    shown = {name if name in DECLARED else re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert DECLARED.keys() - shown == set()


def test_the_queries_of_usage_are_those_of_the_sql_page() -> None:
    documented = {_without_time(block.code) for block in blocks("docs/sql.md")}
    shown = {query.panel: _without_time(query.text) for query in dashboards.sql()}
    for panel in ("Usage per project", "Top models", "Error rate"):
        assert shown[panel] in documented, panel


def _without_time(statement: str) -> str:
    """A dashboard has its own range of time."""
    return re.sub(r"WHERE .*?\n(?=GROUP BY)", "", statement, flags=re.DOTALL).strip().rstrip(";")
