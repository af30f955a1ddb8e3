"""A test whose deadline passed may have met a busy machine: `--late` runs the late ones of the last run again, alone.

A wrong number is never tried again: where any test failed for another reason, `--late` refuses.
"""

from typing import Final

import pytest

CACHE: Final = "call-processor/failures"
LATE: Final = ("tests.stack.Late:", "Failed: Timeout", "subprocess.TimeoutExpired:")
MOST: Final = 5  # more of them are no accident


class Failures:
    """Which tests of this run failed, and how many of them for another reason than their deadline."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._late: set[str] = set()
        self._others: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            late = crash is not None and crash.message.startswith(LATE)
            (self._late if late else self._others).add(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._others.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        assert self._config.cache is not None
        self._config.cache.set(CACHE, {"late": sorted(self._late), "others": sorted(self._others)})


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--late", action="store_true", help="only the tests that were late in the last run")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and hasattr(config, "cache"):  # the processes of xdist report to the first
        config.pluginmanager.register(Failures(config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--late"):
        return
    assert config.cache is not None
    failures = config.cache.get(CACHE, {"late": [], "others": []})
    late, others = set(failures["late"]), failures["others"]
    if others or not 0 < len(late) <= MOST:
        reason = f"{len(others)} failed for another reason than their deadline, {len(late)} were late"
        raise pytest.UsageError(f"--late tries up to {MOST} late tests again, and only when no other failed: {reason}")
    items[:] = [item for item in items if item.nodeid in late]
