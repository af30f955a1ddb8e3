"""What is late is tried again; what is wrong never."""

import pytest

pytest_plugins = ["pytester"]

LATE = "def test_slow():\n    from tests.stack import Late\n    raise Late('after 1 s still not: ready')\n"
FINE = "def test_fine():\n    pass\n"
WRONG = "def test_wrong():\n    assert 1 + 1 == 3\n"


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "tests.late", *arguments)


def test_only_the_late_ones_run_again(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(LATE + FINE)
    run(pytester).assert_outcomes(passed=1, failed=1)
    run(pytester, "--late").assert_outcomes(failed=1)
    run(pytester, "--late").assert_outcomes(failed=1)


@pytest.mark.parametrize("source", [LATE + WRONG, WRONG, FINE, LATE * 6])
def test_refused(pytester: pytest.Pytester, source: str) -> None:
    """Beside a wrong one, without a late one, and where many are late."""
    names = iter(range(10))
    parts = source.split("def test_slow")
    pytester.makepyfile(parts[0] + "".join(f"def test_slow{next(names)}{part}" for part in parts[1:]))
    run(pytester)
    refused = run(pytester, "--late")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["*only when no other failed*"])


def test_a_file_that_cannot_be_read_is_wrong(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_one=LATE, test_two="import nothing_of_that_name\n")
    run(pytester, "--continue-on-collection-errors")
    assert run(pytester, "--late").ret != pytest.ExitCode.TESTS_FAILED


def test_nothing_is_kept_without_a_cache(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(LATE + FINE)
    run(pytester, "-p", "no:cacheprovider").assert_outcomes(passed=1, failed=1)
