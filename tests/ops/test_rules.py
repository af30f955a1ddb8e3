"""Each alert fires, does not fire, and ends: judged by Prometheus' own tool on made-up series."""

import json
import math
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import pytest

from tests.ops.cases import CASES, GROWS, HOUR, Case
from tests.ops.tools import promtool
from tests.rules import FILES, rules

pytestmark = pytest.mark.ops
COARSE_MIN: Final = 10  # a case of many hours is looked at every ten minutes only
LONG_MIN: Final = 8 * HOUR


def test_promtool_finds_no_fault_with_the_rules() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", *FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("step_min", [1, COARSE_MIN])
def test_every_alert_fires_when_it_must_and_only_then(file: Path, step_min: int, tmp_path: Path) -> None:
    named = {rule.name for rule in rules(file)}
    chosen = [case for case in CASES if case.alert in named and step_of(case) == step_min]
    tests = {
        "rule_files": [str(file)],
        "evaluation_interval": f"{step_min}m",
        "tests": [told(case, number, step_min) for number, case in enumerate(chosen)],
    }
    written = tmp_path / "alerts.test.json"
    written.write_text(json.dumps(tests), encoding="utf-8")
    promtool("test", "rules", written)


def step_of(case: Case) -> int:
    return COARSE_MIN if sum(case.minutes) > LONG_MIN else 1


def told(case: Case, number: int, step_min: int) -> dict[str, Any]:
    """As promtool wants to be told."""
    names = {name for _, values in case.stretches for name in values}
    ends = [sum(case.minutes[: n + 1]) for n in range(3)]
    firing = f'count(ALERTS{{alertname="{case.alert}", alertstate="firing"}})'
    expected: tuple[list[Any], ...] = ([], [{"labels": "{}", "value": 1}] if case.fires else [], [])
    return {
        "name": f"{case.alert} {number}",
        "interval": f"{step_min}m",
        "input_series": [{"series": name, "values": " ".join(samples(case, name, step_min))} for name in sorted(names)],
        "promql_expr_test": [
            {"expr": firing, "eval_time": f"{end - step_min}m", "exp_samples": samples}
            for end, samples in zip(ends, expected, strict=True)
        ],
    }


def samples(case: Case, name: str, step_min: int) -> Iterator[str]:
    grows = any(mark in name for mark in GROWS)
    total = 0.0
    for minutes, values in case.stretches:
        for value in repeat(values.get(name), minutes // step_min):
            if value is None:
                yield "_"
            elif grows:
                total += value * step_min
                yield repr(total)
            else:
                yield {math.inf: "+Inf"}.get(value, "NaN" if math.isnan(value) else repr(float(value)))
