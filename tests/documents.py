"""The code blocks of our documents, and a shell in which they are typed one after the other."""

import os
import re
import signal
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """`shows`: the text block right behind it, what it must print; None: whatever it prints."""

    where: str
    language: str
    code: str
    shows: str | None
    like: bool = False  # figures may differ: digits are compared as digits


def blocks(document: str) -> Iterator[Block]:
    text = (ROOT / document).read_text(encoding="utf-8")
    fences = list(_FENCE.finditer(text))
    for fence, following in zip(fences, [*fences[1:], None], strict=True):
        language, _, code = fence.groups()
        if language == "text":
            continue
        where = f"{document}:{text[: fence.start()].count(chr(10)) + 1}"
        shown = (
            following
            if following and following[1] == "text" and not text[fence.end() : following.start()].strip()
            else None
        )
        yield Block(where, language, code, shown[3] if shown else None, bool(shown and "like" in shown[2]))


def assert_shows(block: Block, printed: str) -> None:
    if block.shows is None:
        return
    expected, found = _lines(block.shows), _lines(printed)
    if block.like:
        expected, found = ([_figures(line) for line in lines] for lines in (expected, found))
    assert found == expected, f"{block.where} shows something else"


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def _figures(line: str) -> str:
    """Digits and the width of columns aside."""
    return re.sub(r"\s+", " ", re.sub(r"\d[\d,.]*", "#", line)).strip()


class Shell:
    """One bash for a whole document, so that variables, functions and background jobs stay. Ends all it started.

    `replaced`: what the document says, and what it is in the test (addresses, ports, paths).
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], replaced: Mapping[str, str]) -> None:
        self._replaced = replaced
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], cwd=folder, env=dict(environment), text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def type(self, block: Block) -> str:
        """What it prints, on both streams, said in the document's words; a command that fails is a failed test."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        end = f"end-{uuid.uuid4().hex}"
        code = block.code
        for said, real in self._replaced.items():
            code = code.replace(said, real)
        self._bash.stdin.write(f"{code}\nended=$?; echo; echo {end} $ended\n")
        self._bash.stdin.flush()
        printed: list[str] = []
        for line in self._bash.stdout:
            if line.startswith(end):
                assert line.split()[1] == "0", f"{block.where} failed:\n{''.join(printed)}"
                break
            printed.append(line)
        else:
            raise AssertionError(f"{block.where} ended the shell:\n{''.join(printed)}")
        text = "".join(printed)
        for said, real in self._replaced.items():
            text = text.replace(real, said)
        return text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._bash.pid, signal.SIGTERM)
        self._bash.communicate(timeout=30)
