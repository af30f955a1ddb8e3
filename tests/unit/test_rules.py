"""Alerts tell enough, lead to a section of the runbook that is there, and ask of metrics that are declared."""

import re

import pytest

from processor.metrics import ANSWERS
from tests import metrics_page
from tests.documents import ROOT
from tests.ops.cases import CASES
from tests.rules import Rule, alerts, rules, selectors

ALERTS = alerts()
DECLARED = {m.name: m for m in (*metrics_page.of_process(), *metrics_page.of_ingest(), *metrics_page.of_worker())}


def anchors(document: str) -> list[str]:
    """Of its headings, as a code host makes them."""
    headings = re.findall(r"^#+ (.+)$", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_says_what_it_is_how_urgent_and_what_to_do(alert: Rule) -> None:
    assert alert.name.startswith("CallProcessor")
    assert alert.content["labels"]["severity"] in {"critical", "warning"}
    assert set(alert.content["annotations"]) == {"summary", "description", "runbook_url"}
    document, _, anchor = alert.content["annotations"]["runbook_url"].partition("#")
    assert anchors(document).count(anchor) == 1


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_a_section_of_the_runbook_has_four_parts(alert: Rule) -> None:
    runbook = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    section = runbook.partition(f"### {alert.name}\n")[2].partition("\n#")[0]
    parts = re.findall(r"^- \*\*([^*]+?):?\*\*", section, re.MULTILINE)
    assert parts == ["You see", "By itself", "You do", "Do not"]


def test_every_alert_has_its_cases_and_every_case_its_alert() -> None:
    assert {case.alert for case in CASES} == {alert.name for alert in ALERTS}


def test_links_within_the_runbook_lead_somewhere() -> None:
    text = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= set(anchors("docs/runbook.md"))


def test_rules_ask_only_of_what_is_declared() -> None:
    recorded = {rule.name for rule in rules() if not rule.is_alert}
    for rule in rules():
        for selector in selectors(rule.expr):
            name, _, labels = selector.partition("{")
            if name in recorded:
                continue
            assert set(re.findall(r"(\w+)\s*(?:=|!)", labels)) <= set(DECLARED[name].labels), f"{rule.name}: {selector}"
            assert {r for word in re.findall(r'reason!?=~?"([^"]+)"', labels) for r in word.split("|")} <= set(ANSWERS)
