"""The first command that anybody runs: what it prints, what it leaves behind, and the line to paste."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.stack import MARK, processes_marked

pytestmark = pytest.mark.stack

ADDRESS = r"127\.0\.0\.1:\d+"
SHAPE = (
    rf"Kafka [\d.]+ {ADDRESS} \(\d+\.\d s\) \| PostgreSQL [\d.]+ {ADDRESS} \(\d+\.\d s\)"
    rf" \| ingest http://{ADDRESS} \| workers 2",
    r"sent [\d,]+ \| accepted [\d,]+ \| refused \d+ \(422: \d+, 413: \d+, 415: \d+\)",
    r"PROJECT +MODEL +CALLS +TOKENS leaf +TOKENS as posted",
    *[r"\S.*?(  +-?[\d,]+){3}( +<- parents repeat their children)?"] * 10,
    r"\.\.\. and \d+ more",
    r"duplicates \d+ \(\d+ of them conflicts\) \| dead letters \d+ \(foreign records\)",
    r"OK  stored totals equal what was sent: (?P<calls>[\d,]+) calls, (?P<rows>[\d,]+) of (?P=rows) rows",
)


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """A shell without settings of ours; nothing that it starts may be left over."""
    name = f"demo-{uuid.uuid4().hex}"
    yield {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], MARK: name}
    left = processes_marked(name)
    for process in left:
        process.kill()
    assert not left, f"left over: {left}"


def demo(folder: Path, environment: dict[str, str], *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "processor", "demo", "--calls", "400", *options]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_demo_says_ok_and_stops_or_stays_up_for_a_call_of_ones_own(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with demo(tmp_path, environment, "--once") as first:
        printed, said = first.communicate(timeout=60)
    assert first.returncode == 0, said
    assert "what was stored stays in .call-processor; to look at it again: " in said
    assert_shape(printed.splitlines(), calls=400)
    assert not processes_marked(environment[MARK])

    with demo(tmp_path, environment) as second:  # on top of what the first has stored
        assert second.stdout is not None
        lines = [second.stdout.readline().rstrip("\n") for _ in SHAPE]
        assert_shape(lines, calls=400)
        assert post_as_pasted(second.stdout.readline()) == (200, b"{}")
        look = second.stdout.readline().removeprefix("look: ")
        assert (
            "acme/chat"
            in subprocess.run(
                ["sh", "-c", look],
                cwd=tmp_path,
                env=environment,
                timeout=30,
                text=True,
                capture_output=True,
                check=True,
            ).stdout
        )
        second.send_signal(signal.SIGINT)
        printed, said = second.communicate(timeout=30)
    assert (second.returncode, printed) == (0, ""), said
    assert "stays up; Ctrl-C stops everything, and what is stored stays" in said


def assert_shape(lines: list[str], *, calls: int) -> None:
    """Every line as documented; the OK line counts at least the calls that were asked for."""
    assert len(lines) == len(SHAPE), lines
    matches = [re.fullmatch(shape, line) for shape, line in zip(SHAPE, lines, strict=True)]
    assert None not in matches, [line for match, line in zip(matches, lines, strict=True) if match is None]
    last = matches[-1]
    assert last is not None
    assert int(last["calls"].replace(",", "")) >= calls


def post_as_pasted(line: str) -> tuple[int, bytes]:
    """What a shell makes of `try:  curl ...`, sent without curl: not every machine has it."""
    match = re.fullmatch(r"try:  (curl .*)\n", line)
    assert match is not None, line
    curl, silent, url, _, header, _, data = shlex.split(match[1])
    assert (curl, silent, data[0]) == ("curl", "-s", "@")
    name, _, value = header.partition(": ")
    body = Path(data[1:]).read_bytes()
    assert "end" in json.loads(body)
    address = urlsplit(url)
    assert address.hostname is not None
    connection = HTTPConnection(address.hostname, address.port, timeout=10)
    connection.request("POST", address.path, body, {name: value})
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer
