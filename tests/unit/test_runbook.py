"""The runbook: every situation says what is seen, what happens by itself, what to do, what not to do, and its test."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest

from processor.cli.main import DEFECT
from processor.errors import ExitCode
from processor.metrics import PREFIX, IngestMetrics, WorkerMetrics, new_registry
from tests.documents import ROOT

TEXT: Final = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
PARTS: Final = ("You see", "By itself", "You do", "Do not", "Tested by")
REFERENCE: Final = {"Exit codes", "Sizing", "Timeouts of ingest", "Timeouts of workers"}  # no situations
LONGEST_NAME: Final = 48  # headings are what alerts link to


class Section(NamedTuple):
    name: str
    text: str


def sections() -> Iterator[Section]:
    for part in re.split(r"^## ", re.sub(r"^# .*$", "", TEXT, flags=re.MULTILINE), flags=re.MULTILINE)[1:]:
        name, _, text = part.partition("\n")
        yield Section(name, text)


SITUATIONS: Final = [section for section in sections() if section.name not in REFERENCE]


@pytest.mark.parametrize("section", SITUATIONS, ids=[section.name for section in SITUATIONS])
def test_a_situation_has_all_its_parts_in_their_order_and_each_says_something(section: Section) -> None:
    parts = re.findall(r"^- \*\*([^*]+):\*\*(.*(?:\n(?!- ).*)*)", section.text, re.MULTILINE)
    assert tuple(name for name, _ in parts) == PARTS
    assert all(len(text.split()) >= 2 or name == "Tested by" for name, text in parts)


@pytest.mark.parametrize("section", SITUATIONS, ids=[section.name for section in SITUATIONS])
def test_a_situation_names_tests_that_are_there(section: Section) -> None:
    tested = section.text.rpartition("**Tested by:**")[2]
    files = re.findall(r"`(tests/[\w/]+\.py)`", tested)
    assert files
    assert not [file for file in files if not (ROOT / file).exists()]


def test_headings_are_short_and_differ_so_that_alerts_can_link_to_them() -> None:
    names = [section.name for section in sections()]
    assert len({anchor(name) for name in names}) == len(names)
    assert not [name for name in names if len(name) > LONGEST_NAME]


def test_links_within_the_runbook_lead_somewhere() -> None:
    links = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert links
    assert links <= {anchor(name) for name in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)}


def test_metrics_that_it_names_are_ours() -> None:
    registry = new_registry()
    IngestMetrics(registry), WorkerMetrics(registry)
    known = {metric.name for metric in registry.collect()}
    named = set(re.findall(rf"`({PREFIX}\w+)`", TEXT))
    assert named
    assert not [name for name in named if name.removesuffix("_total") not in known]


def test_the_table_of_exit_codes_has_them_all() -> None:
    (table,) = (section.text for section in sections() if section.name == "Exit codes")
    assert re.findall(r"^\| (\d+) \|", table, re.MULTILINE) == [str(int(code)) for code in (*ExitCode, DEFECT)]


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
