"""Whether a manifest is what Kubernetes, or the operator of a custom resource, would take. Unknown fields are errors.

The schemas are those of kubernetes-validate, and the published ones in crds/; its own function would read megabytes
for each manifest, and say the first error only.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate import utils
from referencing import Registry, Resource

from tests.chart.helm import Manifest

OLDEST: Final = "1.27"  # kubeVersion of Chart.yaml
NEWEST: Final = "1.37"
CRDS: Final = Path(__file__).parent / "crds"


def problems(manifest: Manifest, version: str) -> list[str]:
    name = f"{manifest['kind']}/{manifest['metadata']['name']}"
    errors = _validator(manifest["apiVersion"], manifest["kind"], version).iter_errors(manifest)
    return [f"{name} {error.json_path}: {error.message[:300]}" for error in errors]


@cache
def _validator(api_version: str, kind: str, version: str) -> Draft202012Validator:
    group, _, _ = api_version.rpartition("/")
    if (custom := _custom_schemas().get((api_version, kind))) is not None:
        return Draft202012Validator(custom)
    assert not group.endswith((".coreos.com", ".sh")), f"no schema of {kind} {api_version} in {CRDS}"
    short = f"{group.partition('.')[0]}-{api_version.rpartition('/')[2]}" if group else api_version
    file = f"kubernetes-json-schema/v{version}.0-local-strict/{kind.lower()}-{short}.json"
    schema = utils.schema_contents(file, version)
    registry = Resource.from_contents(schema) @ (_definitions(version) @ Registry())
    return Draft202012Validator(schema, registry=registry)


@cache
def _definitions(version: str) -> Any:
    file = f"kubernetes-json-schema/v{version}.0-local-strict/_definitions.json"
    return Resource.from_contents(utils.schema_contents(file, version))


@cache
def _custom_schemas() -> dict[tuple[str, str], Any]:
    return {
        (f"{crd['group']}/{version}", crd["kind"]): schema
        for crd in (yaml.safe_load(path.read_text(encoding="utf-8")) for path in _files())
        for version, schema in ((version, _closed(schema)) for version, schema in crd["versions"].items())
    }


def _files() -> Iterator[Path]:
    files = sorted(CRDS.glob("*.yaml"))
    assert files, f"{CRDS} is empty: `make chart-crds`"
    yield from files


def _closed(schema: Any) -> Any:
    """A structural schema as JSON Schema: what the API server would prune is refused."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
        closed["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed["additionalProperties"] = False
    return closed
