"""The Prometheus rules as they lie in the chart, and their expressions taken apart as far as tests need it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

FOLDER: Final = Path(__file__).parents[1] / "helm" / "files" / "rules"
FILES: Final = sorted(FOLDER.glob("*.yaml"))
_ABSENT = re.compile(r"absent(?:_over_time)?\([^()]*\)")
_SELECTOR = re.compile(r"\b(?:call_processor|process)[_:][a-zA-Z0-9_:]+(?:\{[^}]*\})?")


@dataclass(frozen=True, slots=True)
class Rule:
    """`name`: of the alert, or of the series that is recorded."""

    name: str
    is_alert: bool
    expr: str
    content: dict[str, Any]


def rules(*files: Path) -> Iterator[Rule]:
    for file in files or FILES:
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                yield Rule(rule.get("alert") or rule["record"], "alert" in rule, rule["expr"], rule)


def alerts() -> list[Rule]:
    return [rule for rule in rules() if rule.is_alert]


def selectors(expr: str) -> set[str]:
    """Every series that an expression selects; what may be absent is left out."""
    return set(_SELECTOR.findall(_ABSENT.sub("", expr)))


def shortened(text: str) -> str:
    """A file of rules in which what takes minutes and days takes seconds: only times are changed."""
    text = re.sub(r"\[(\d+[smhdw])\]", lambda found: f"[{_short_window_s(_seconds(found[1]))}s]", text)
    text = re.sub(r"offset \d+[smhdw]", f"offset {OFFSET_S}s", text)
    text = re.sub(r"for: (\d+[smhdw])", lambda found: f"for: {2 if _seconds(found[1]) <= 300 else 3}s", text)
    return re.sub(r"(_seconds\)? > (?:bool )?)(\d+)", lambda found: f"{found[1]}{int(found[2]) / THRESHOLDS}", text)


OFFSET_S: Final = 25
THRESHOLDS: Final = 20
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * _UNITS[duration[-1]]


def _short_window_s(window_s: int) -> int:
    return 5 if window_s <= 300 else 8 if window_s <= 1800 else 12
