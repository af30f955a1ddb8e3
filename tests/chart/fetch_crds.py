"""Takes the published schemas of custom resources out of their Go modules, and trims them: `make chart-crds`.

Needs the Go client (`go`). The versions stand here; the checksums that are printed belong into crds/README.md.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import yaml

CRDS: Final = Path(__file__).parent / "crds"
MODULES: Final = {
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
    "github.com/kedacore/keda/v2@v2.21.0": ("config/crd/bases/keda.sh_scaledobjects.yaml",),
}


def main() -> int:
    go = shutil.which("go")
    if go is None:
        sys.stderr.write("there is no `go` on this machine: install Go, which downloads and checks the modules\n")
        return 3
    for module, files in MODULES.items():
        # Outside of any module of the user's; `go mod download` checks the sum against the checksum database.
        ran = subprocess.run(
            [go, "mod", "download", "-json", module],
            cwd=tempfile.gettempdir(),
            capture_output=True,
            text=True,
            check=True,
        )
        downloaded = json.loads(ran.stdout)
        sys.stdout.write(f"{module} {downloaded['Sum']}\n")
        for file in files:
            path = Path(downloaded["Dir"]) / file
            (CRDS / path.name).write_text(_trimmed(path.read_text(encoding="utf-8"), f"{module} {file}"))
    return 0


def _trimmed(text: str, source: str) -> str:
    crd = yaml.safe_load(text)
    kept = {
        "group": crd["spec"]["group"],
        "kind": crd["spec"]["names"]["kind"],
        "versions": {
            version["name"]: _schema(version["schema"]["openAPIV3Schema"])
            for version in crd["spec"]["versions"]
            if version["served"]
        },
    }
    for schema in kept["versions"].values():
        schema["properties"].pop("status", None)
    return f"# {source}\n{yaml.safe_dump(kept, sort_keys=True, width=120)}"


def _schema(node: Any) -> Any:
    """Without descriptions: a property may be called so, then it is a schema and no text."""
    if isinstance(node, dict):
        return {k: _schema(v) for k, v in node.items() if not (k == "description" and isinstance(v, str))}
    return [_schema(one) for one in node] if isinstance(node, list) else node


if __name__ == "__main__":
    sys.exit(main())
