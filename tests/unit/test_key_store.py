"""The key file under a running door: changed as Kubernetes changes it, broken, gone, mended."""

import json
import logging
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from processor.config import Log
from processor.ingest.auth import Keys
from processor.ingest.key_store import KeyStore
from processor.logs import configure
from tests.stack import wait_until


class Said:
    """The events logged by this process; `events` gives those since it was asked last."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        configure(Log(), "ingest")

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._capsys.readouterr().err.splitlines()]


@pytest.fixture(autouse=True)
def _no_handlers_left() -> Iterator[None]:
    yield
    logging.getLogger().handlers.clear()


def text(*secrets: str) -> str:
    return "".join(
        f'[keys.{name}]\nsha256 = "{sha256(name.encode()).hexdigest()}"\nprojects = ["a/b"]\n' for name in secrets
    )


class Looks:
    """What the store told of each look at a changed file: how many keys are in force, whether the file is broken."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bool]] = []

    def __call__(self, keys: Keys | None, broken: bool) -> None:
        self.seen.append((len(keys or ()), broken))


def mount(folder: Path, version: str, content: str) -> Path:
    """As a kubelet does: a new folder, and the link `..data` swapped in one step."""
    (folder / version).mkdir()
    (folder / version / "keys.toml").write_text(content)
    fresh = folder / "..data_tmp"
    fresh.symlink_to(version)
    fresh.rename(folder / "..data")
    file = folder / "keys.toml"
    if not file.is_symlink():
        file.symlink_to("..data/keys.toml")
    return file


def test_a_secret_that_is_swapped_is_seen_while_the_door_runs(tmp_path: Path) -> None:
    with KeyStore(mount(tmp_path, "..1", text("old")), look_every_s=0.01) as store:
        assert find(store, "old")
        mount(tmp_path, "..2", text("old", "new"))
        wait_until(lambda: find(store, "new"), within_s=5, what="the new key is valid")
        assert find(store, "old")
        mount(tmp_path, "..3", text("new"))
        wait_until(lambda: not find(store, "old"), within_s=5, what="the old key is not")


def find(store: KeyStore, secret: str) -> bool:
    keys = store.current()
    return keys is not None and keys.find(secret.encode()) is not None


@pytest.mark.parametrize("breaks", ["no toml: hunter2", "", "[keys.a]\nsha256 = 'hunter2'\nprojects = []", None])
def test_a_broken_file_keeps_the_keys_says_so_once_and_recovers(
    tmp_path: Path, breaks: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    said, file, looks = Said(capsys), tmp_path / "keys.toml", Looks()
    file.write_text(text("a", "b"))
    store = KeyStore(file, looks)
    store.look()
    if breaks is None:
        file.unlink()
    else:
        file.write_text(breaks)
    for _ in range(3):
        store.look()
    assert (find(store, "a"), looks.seen[-1]) == (True, (2, True))
    read, broken = said.events()
    assert (read["level"], broken["level"]) == ("info", "error")
    assert "the keys read before stay in force" in broken["event"]
    assert "hunter2" not in json.dumps(broken)
    file.write_text(text("c"))
    store.look()
    assert (find(store, "a"), find(store, "c"), looks.seen[-1]) == (False, True, (1, False))


def test_without_a_file_there_are_no_keys_until_it_comes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = Said(capsys)
    with KeyStore(tmp_path / "keys.toml", look_every_s=0.01) as store:
        assert store.current() is None
        assert ["nobody is let in (503)" in event["event"] for event in said.events()] == [True]
        (tmp_path / "keys.toml.new").write_text(text("a"))
        (tmp_path / "keys.toml.new").rename(tmp_path / "keys.toml")
        wait_until(lambda: find(store, "a"), within_s=5, what="the key is valid")
