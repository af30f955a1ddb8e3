"""The values with which the chart is tried: each switch by itself, the files of helm/ci, everything, nothing."""

from typing import Any, Final

import yaml

from tests.chart.helm import CHART, at, defaults, merged

CI: Final = {
    path.name.removesuffix("-values.yaml"): yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((CHART / "ci").glob("*-values.yaml"))
}
MINIMAL: Final[dict[str, Any]] = CI["minimal"]
INLINE: Final[dict[str, Any]] = CI["inline"]
EVERYTHING: Final[dict[str, Any]] = CI["everything"]

# Where one thing excludes another, it is tried with everything else.
INSTEAD: Final = {
    "worker.autoscaling": merged(at("worker.keda.enabled", False), at("worker.autoscaling.enabled", True)),
    "podMonitor": merged(at("metrics.serviceMonitor.enabled", False), at("metrics.podMonitor.enabled", True)),
    "inline": merged(
        *(at(f"{section}.existingSecret", "") for section in ("postgres", "kafka", "keys")),
        at("postgres.dsn", "postgresql://calls@postgres.example/calls"),
        at("kafka.properties", {"security.protocol": "SSL", "socket.timeout.ms": 12000000, "log.queue": True}),
        at("keys.file", "[keys.a]\nsha256 = 'x'\nprojects = ['*/*']\n"),
    ),
    "minAvailable": merged(
        *(
            at(f"{role}.podDisruptionBudget", {"minAvailable": "50%", "maxUnavailable": None})
            for role in ("ingest", "worker")
        )
    ),
    "accounts that exist": merged(
        *(at(f"{role}.serviceAccount", {"create": False, "name": "given"}) for role in ("ingest", "worker", "setup"))
    ),
}  # fmt: skip


def switches(values: dict[str, Any], path: str = "") -> dict[str, bool]:
    """Every value that is true or false by default."""
    found: dict[str, bool] = {}
    for key, value in values.items():
        if isinstance(value, bool) and "Context" not in path:
            found[path + key] = value
        elif isinstance(value, dict):
            found |= switches(value, f"{path}{key}.")
    return found


_SWITCHED: Final = merged(MINIMAL, at("ingest.ingress.hosts", ["calls.example.com"]))  # what switches need
SWITCHES: Final = switches(defaults())
ALL_OFF: Final = merged(
    MINIMAL, *(at(path, False) for path in SWITCHES), *(at(f"{role}.replicas", 1) for role in ("ingest", "worker"))
)
VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "nothing": {},
    "all off": ALL_OFF,
    **{f"ci/{name}": values for name, values in CI.items()},
    **{f"everything, {name}": merged(EVERYTHING, values) for name, values in INSTEAD.items()},
    **{f"{path}: {not on}": merged(_SWITCHED, at(path, not on)) for path, on in SWITCHES.items()},
    "digest and IPv6": merged(INLINE, at("listenHost", "[::]"), at("image.tag", "7")),
    "large numbers": merged(
        MINIMAL,
        at("podSecurityContext.runAsUser", 1000650000),
        at("setup.activeDeadlineSeconds", 1234567),
        at("worker.progressDeadlineSeconds", 7654321),
        at("config.ingest", {"max_body_bytes": 134217728, "max_record_bytes": 16777216}),
        at("ingest.resources.limits.memory", "2Gi"),
    ),
    "no resources": merged(MINIMAL, *(at(f"{role}.resources", None) for role in ("ingest", "worker", "setup"))),
    "recreated": merged(MINIMAL, at("worker.strategy.type", "Recreate")),
    "no limits": merged(MINIMAL, at("ingest.resources", {"limits": None}), at("worker.resources.limits", None)),
}
