"""A rendered pod, as the program in it sees itself."""

import os
from collections.abc import Mapping
from typing import Any
from unittest import mock

from processor.config import Settings
from tests.chart.helm import Manifest, render


def ours(pod: Manifest) -> Manifest:
    container: Manifest = pod["spec"]["containers"][0]
    return container


def environment(pod: Manifest) -> dict[str, str]:
    return {one["name"]: one.get("value", "from elsewhere") for one in ours(pod)["env"]}


def settings(pod: Manifest) -> Settings:
    """What the program makes of a pod's environment; ValidationError if it would end with exit code 2."""
    with mock.patch.dict(os.environ, environment(pod), clear=True):
        return Settings(_env_file=None)  # type: ignore[call-arg]


def deployment_pod(values: Mapping[str, Any], role: str) -> Manifest:
    template: Manifest = render(values).one("Deployment", f"-{role}")["spec"]["template"]
    return template
