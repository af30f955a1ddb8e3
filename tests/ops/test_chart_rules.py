"""The PrometheusRule that the chart renders, judged by Prometheus' own tool as a plain file of rules."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.helm import at, render
from tests.chart.variants import EVERYTHING
from tests.ops.tools import promtool

pytestmark = pytest.mark.ops


@pytest.mark.parametrize("values", [at("metrics.prometheusRule.enabled", True), EVERYTHING], ids=["as is", "changed"])
def test_promtool_finds_no_fault_with_the_rules_that_are_rendered(values: dict[str, Any], tmp_path: Path) -> None:
    groups = render(values).one("PrometheusRule")["spec"]["groups"]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
    said = promtool("check", "rules", "--lint=all", "--lint-fatal", file)
    assert f"SUCCESS: {sum(len(group['rules']) for group in groups)} rules found" in said
