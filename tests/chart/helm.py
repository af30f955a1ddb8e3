"""The chart, rendered by Helm itself (its Go code, in a library): no helm binary, no cluster, some milliseconds."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

try:
    import helm_python
except ImportError as error:
    raise RuntimeError(
        "helm-python-sdk is not installed: it has no wheel for this platform. With Go and a C compiler:"
        " HELM_PYTHON_BUILD=1 pip install --no-binary helm-python-sdk helm-python-sdk"
    ) from error

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "helm"

Values = Mapping[str, Any]
Manifest = dict[str, Any]


class Refused(Exception):
    """What Helm says instead of rendering."""


@dataclass(frozen=True, slots=True)
class Release:
    """What would be sent to a cluster, hooks among it, and what is said to the operator."""

    manifests: list[Manifest]
    notes: str

    def all(self, kind: str) -> list[Manifest]:
        return [one for one in self.manifests if one["kind"] == kind]

    def one(self, kind: str, name_ends: str = "") -> Manifest:
        """The only one of its kind whose name ends so."""
        (found,) = [one for one in self.all(kind) if one["metadata"]["name"].endswith(name_ends)]
        return found

    def pods(self) -> Iterator[tuple[str, Manifest]]:
        """Every pod that would come to be: the name of what makes it, and its template (metadata, spec)."""
        for one in self.manifests:
            if one["kind"] in {"Deployment", "Job"}:
                yield one["metadata"]["name"], one["spec"]["template"]
            elif one["kind"] == "Pod":
                yield one["metadata"]["name"], one


def render(values: Values | None = None, *, name: str = "demo", namespace: str = "prod") -> Release:
    """`Refused` with Helm's sentence if the schema or a template refuses the values. Not to be changed: it is kept."""
    return _release(json.dumps(values or {}), name, namespace)


@cache
def _release(values: str, name: str, namespace: str) -> Release:
    files = texts(json.loads(values), name=name, namespace=namespace)
    notes = next(text for path, text in files.items() if path.endswith("NOTES.txt"))
    manifests = [text for path, text in sorted(files.items()) if not path.endswith("NOTES.txt") and text.strip()]
    return Release([one for text in manifests for one in yaml.load_all(text, Loader=_Strict) if one], notes)


def texts(values: Values, *, name: str = "demo", namespace: str = "prod", chart: Path = CHART) -> dict[str, str]:
    """As `render`, as text by template."""
    try:
        return _chart(chart).render(dict(values), name=name, namespace=namespace)
    except helm_python.HelmError as error:
        raise Refused(str(error)) from None


def lint(values: Values | None = None) -> list[str]:
    """What `helm lint --strict` finds."""
    report = helm_python.lint(CHART, dict(values or {}), strict=True)
    return [f"{one['path']}: {one['error']}" for one in report["messages"] if one["severity"] > 1]


def defaults() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return values


def merged(*values: Values) -> dict[str, Any]:
    """As Helm merges several `-f`: maps grow together, whatever else is replaced."""
    result: dict[str, Any] = {}
    for one in values:
        for key, value in one.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else value
    return result


def at(path: str, value: object) -> dict[str, Any]:
    """`a.b.c` and a value as nested maps."""
    for name in reversed(path.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


@cache
def _chart(path: Path) -> helm_python.Chart:
    return helm_python.Chart.load(path)


class _Strict(yaml.CSafeLoader):
    """A key that stands twice is an error: Kubernetes would take one of them."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key stands twice, {sorted(keys)}"
        return super().construct_mapping(node, deep=deep)
