"""The file of API keys: every problem at once, nothing of what it holds in a message, globs part by part."""

from datetime import UTC, datetime
from time import perf_counter

import pytest

from processor.ingest.key_file import MAX_REMEMBERED, BrokenKeyFile, Key, parse_keys

A, B = "a" * 64, "B" * 64


def test_a_file_is_keys_with_projects_and_expiry() -> None:
    first, second = parse_keys(
        f"""
        [keys.team-a]
        sha256 = "{A}"  # of the old key
        projects = ["acme/chat", "acme/eval-*"]
        expires_at = 2027-01-01T00:00:00+01:00
        [keys."team ü"]
        sha256 = "{B}"
        projects = ["*/*"]
        """.encode()
    )
    assert (first.id, first.digest, first.projects) == ("team-a", b"\xaa" * 32, ("acme/chat", "acme/eval-*"))
    assert first.expires_at == datetime(2026, 12, 31, 23, tzinfo=UTC)
    assert (second.id, second.digest, second.expires_at) == ("team ü", b"\xbb" * 32, None)


def test_all_that_is_wrong_is_said_at_once_by_name_and_without_a_value() -> None:
    with pytest.raises(BrokenKeyFile) as caught:
        parse_keys(
            f"""
            hunter2 = "hunter2"
            [keys.one]
            sha256 = "hunter2"
            projects = ["acme"]
            expires_at = 2027-01-01T00:00:00
            [keys.two]
            projects = []
            key = "hunter2"
            [keys.three]
            sha256 = "{A}"
            projects = "hunter2"
            expires_at = "hunter2"
            """.encode()
        )
    places = [problem.partition(":")[0] for problem in caught.value.problems]
    assert places == [
        "keys.one.sha256", "keys.one.projects.0", "keys.one.expires_at", "keys.two.sha256", "keys.two.projects",
        "keys.two.key", "keys.three.projects", "keys.three.expires_at", "hunter2",
    ]  # fmt: skip
    said = [problem.partition(": ")[2] for problem in caught.value.problems]
    assert "hunter2" not in "".join(said)
    assert said[2:6] == [
        "needs a time zone, for example 2027-01-01T00:00:00Z", "is missing", "must not be empty", "is not known here",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[keys]",
        b"\xff",
        b'[keys.a]\nsha256 = "hunter2',
        b"hunter2",
        b"keys = 1",
        b"keys = " + b"[" * 5000,
        b"keys = " + b"9" * 5000,
    ],
)
def test_a_file_without_keys_or_that_is_cut_off_is_broken(content: bytes) -> None:
    with pytest.raises(BrokenKeyFile) as caught:
        parse_keys(content)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("first", "again", "name"),
    [
        ("keys.a-1", "keys.a-1", "a-1"),
        ("keys.a-1", ' keys . "a-1" ', "a-1"),
        ("keys.'ü'", 'keys."ü"', "ü"),
    ],
)
def test_a_name_that_stands_there_twice_is_named(first: str, again: str, name: str) -> None:
    entry = 'sha256 = "hunter2"\nprojects = ["a/b"]\n'
    with pytest.raises(BrokenKeyFile) as caught:
        parse_keys(f"[{first}]\n{entry}[{again}]\n{entry}".encode())
    assert caught.value.problems == (f"keys.{name}: stands there twice (lines 1 and 4): rename or remove one",)


def test_one_key_under_two_names_is_broken() -> None:
    entry = f'sha256 = "{A}"\nprojects = ["a/b"]\n'
    with pytest.raises(BrokenKeyFile, match=r"keys\.two\.sha256: is that of keys\.one too"):
        parse_keys(f"[keys.one]\n{entry}[keys.two]\n{entry}".encode())


@pytest.mark.parametrize(
    ("glob", "allowed", "refused"),
    [
        ("acme/chat", ["acme/chat"], ["acme/chat2", "acme/Chat", "acme2/chat", "acme/chat/x", "acme/chat\n"]),
        ("acme/*", ["acme/chat", "acme/a/b", "acme/\n"], ["acme2/chat", "a/acme/x", "ACME/x"]),
        ("*/chat", ["acme/chat", "ü/chat"], ["a/b/chat", "acme/chat/chat"]),
        ("a?/[xy]*", ["ab/x", "aü/y/z"], ["a/x", "ab/z", "abc/x"]),
        ("*/*", ["a/b", "a/b/c"], []),
    ],
)
def test_globs_match_entity_and_project_each_for_itself(glob: str, allowed: list[str], refused: list[str]) -> None:
    key = Key("k", b"", (glob,))
    assert [project for project in (*allowed, *refused) if key.may_post_to(project)] == allowed
    assert [project for project in (*allowed, *refused) if key.may_post_to(project)] == allowed, "what it remembers"


def test_a_project_chosen_to_make_a_glob_slow_does_not() -> None:
    key = Key("k", b"", ("*a*a*a*a*a*a*a*a*b/*c*c*c*c*c*c*c*c*d",))
    began_s = perf_counter()
    assert not key.may_post_to("a" * 125 + "b/" + "c" * 125)
    assert perf_counter() - began_s < 0.5


def test_what_a_key_remembers_of_projects_is_bounded() -> None:
    key = Key("k", b"", ("acme/*",))
    assert all(key.may_post_to(f"acme/{i}") for i in range(MAX_REMEMBERED * 2 + 1))
    assert len(key._decided) <= MAX_REMEMBERED
