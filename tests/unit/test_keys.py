"""`call-processor keys`: a key is shown once and never taken as an argument; a file is checked as the door reads it."""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from typer.testing import CliRunner

from processor.cli.keys import run
from processor.errors import ExitCode, Stop
from processor.ingest.auth import Keys
from processor.ingest.key_file import parse_keys
from tests.documents import ROOT


def test_a_new_key_is_valid_with_the_entry_that_is_printed_beside_it() -> None:
    made = CliRunner().invoke(
        run, ["new", 'team "ü"', "--project", "acme/*", "--project", "ü/x", "--expires-at", "2999-01-01T00:00:00Z"]
    )
    assert made.exit_code == 0
    key, entry = made.stderr.strip(), made.stdout
    assert key not in entry
    [parsed] = parse_keys(entry.encode())
    assert (parsed.id, parsed.projects) == ('team "ü"', ("acme/*", "ü/x"))
    assert Keys([parsed]).find(key.encode()) is parsed
    assert CliRunner().invoke(run, ["new", "again", "--project", "a/b"]).stderr.strip() != key


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--project", "acme"], "must be entity/project"),
        (["--project", "a/b", "--expires-at", "tomorrow"], "--expires-at tomorrow is no time as in RFC 3339"),
        (["--project", "a/b", "--expires-at", "2027-01-01T00:00:00"], "with a zone: write 2027-01-01T00:00:00Z"),
        (["--project", "a/b", "--expires-at", "2027-01-01"], "is no time"),
        (["--project", "a/b", "--expires-at", "2027-01-01T00:00:00Z\nprojects = []"], "is no time"),
        (["--project", "a/b", "--expires-at", "2020-01-01T00:00:00Z"], "has passed"),
    ],
)
def test_what_the_door_would_not_read_is_not_made(arguments: list[str], sentence: str) -> None:
    made = CliRunner().invoke(run, ["new", "a", *arguments])
    assert isinstance(made.exception, Stop)
    assert sentence in str(made.exception)
    assert made.stdout == made.stderr == ""


def test_a_hash_is_that_of_the_line_on_stdin() -> None:
    key = "schlüssel, sehr lang, von wandb"
    hashed = CliRunner().invoke(run, ["hash"], input=f"{key}\n".encode())
    assert hashed.stdout.strip() == sha256(key.encode()).hexdigest()


def test_a_key_that_could_be_guessed_is_not_hashed() -> None:
    hashed = CliRunner().invoke(run, ["hash"], input=b"hunter2\n")
    assert isinstance(hashed.exception, Stop)
    assert "at least 20 bytes" in str(hashed.exception)
    assert "hunter2" not in str(hashed.exception)


def test_a_check_shows_who_may_post_where_and_no_digest(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f'[keys.a]\nsha256 = "{"a" * 64}"\nprojects = ["acme/*"]\nexpires_at = 2020-01-01T00:00:00Z\n')
    checked = CliRunner().invoke(run, ["check", str(file)])
    assert checked.exit_code == 0
    assert all(word in checked.stdout for word in ("acme/*", "2020-01-01", "(expired)"))
    assert "aaaa" not in checked.stdout


def test_a_check_names_every_problem_and_ends_with_2(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text('[keys.a]\nsha256 = "hunter2"\n[keys.b]\nprojects = ["x"]\n')
    checked = CliRunner().invoke(run, ["check", str(file)])
    assert isinstance(checked.exception, Stop)
    assert checked.exception.exit_code is ExitCode.USAGE
    said = str(checked.exception)
    assert [line.split(":")[0].strip() for line in said.splitlines()[1:]] == [
        "keys.a.sha256", "keys.a.projects", "keys.b.sha256", "keys.b.projects.0",
    ]  # fmt: skip
    assert "hunter2" not in said
    missing = CliRunner().invoke(run, ["check", str(tmp_path / "absent")])
    assert isinstance(missing.exception, Stop)


@pytest.mark.parametrize("document", ["README.md", "docs/keys.md"])
def test_the_recipe_of_the_documents_puts_one_key_after_the_other_into_place(document: str, tmp_path: Path) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    last = "mv keys.new keys.toml"
    recipe = text[text.index("    touch keys.toml") : text.index(last) + len(last)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for name in ("team-a-2026", "team-b-2026", "team-a-2026"):
        done = subprocess.run(
            ["bash", "-ec", recipe.replace("team-a-2026", name)],
            cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode != 0  # the third has the name of the first: said, and not put into place
    assert "team-a-2026" in done.stderr
    assert [key.id for key in parse_keys((tmp_path / "keys.toml").read_bytes())] == ["team-a-2026", "team-b-2026"]
