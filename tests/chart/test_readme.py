"""What README.md tells to type is what the chart takes."""

import re
import shlex
from typing import Any

import helm_python

from tests.chart.helm import CHART, merged, render
from tests.chart.pods import deployment_pod, settings
from tests.chart.variants import CI, MINIMAL

README = (CHART / "README.md").read_text(encoding="utf-8")


def values_of(command: str) -> dict[str, Any]:
    """Those of the `--set` options of the only command that begins so."""
    (block,) = [one for one in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if command in one]
    (line,) = [one.strip() for one in block.replace("\\\n", "").splitlines() if one.strip().startswith(command)]
    words = shlex.split(line, comments=True)
    options = [words[number + 1] for number, word in enumerate(words) if word == "--set"]
    return merged(*map(helm_python.parse_set_string, options))


def test_the_first_install_gives_everything_that_is_required() -> None:
    values = values_of("helm install")
    assert "What is missing" not in render(values).notes
    assert settings(deployment_pod(values, "worker")).bootstrap_servers() == "kafka-0:9092,kafka-1:9092"


def test_openshift_gets_no_user_ids_from_the_chart() -> None:
    values = values_of("helm upgrade")
    assert values == {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}}
    security = deployment_pod(merged(MINIMAL, values), "ingest")["spec"]["securityContext"]
    assert {*security} == {"runAsNonRoot", "fsGroupChangePolicy", "seccompProfile"}
    assert CI["openshift"]["podSecurityContext"] == values["podSecurityContext"]


def test_every_value_that_the_text_names_is_there() -> None:
    prose = README.partition("\n## Values")[0]
    named = {one.partition("=")[0] for one in re.findall(r"`([a-z]\w+(?:\.\w+)+(?:=\w+)?)`", prose)}
    tables = set(re.findall(r"^\| `([\w.]+)`", README, re.MULTILINE))
    known = tables | {one.rpartition(".")[0] for one in tables}
    assert len(named) > 10
    assert not {one for one in named if not one.endswith((".yaml", ".toml", ".crt", ".properties", ".io"))} - known
