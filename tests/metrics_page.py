"""docs/metrics.md, made of the declarations: `make docs`, or `python -m tests.metrics_page`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from processor.metrics import IngestMetrics, ProcessMetrics, WorkerMetrics
from processor.tallies import ByPartition, Distribution, Tally

PAGE: Final = Path(__file__).parents[1] / "docs" / "metrics.md"
INTRODUCTION: Final = """# Metrics

Each process serves `/metrics` on its admin port (`CALL_PROCESSOR_ADMIN__LISTEN`), in Prometheus' text format. Made of
`processor/metrics.py` by `make docs`.

No label holds anything that a client sent: no project, no model, no id, no path. Usage by project and model is asked
from the database ([sql.md](sql.md)). A gauge that nobody has looked at yet is `NaN`. What is alerted on:
[runbook.md](runbook.md#alerts); the rules are in `helm/files/rules`, dashboards in `helm/files/dashboards`.

Who asks more often than twice a second gets the same page again (not with `Cache-Control: no-cache`). Being scraped a
hundred times a second costs 2 to 4 % of a core, and the door is no slower for it: `python -m bench.scrape`. Beside
these, `process_*` tells of memory, CPU and files.
"""


@dataclass(frozen=True, slots=True)
class Declared:
    name: str  # as it is exposed; of a histogram without `_bucket`, `_sum`, `_count`
    kind: str
    labels: tuple[str, ...]
    help: str


def of_process() -> list[Declared]:
    return list(_declared(ProcessMetrics(CollectorRegistry(), "ingest", "2.0.0", 0)))


def of_ingest() -> list[Declared]:
    return list(_declared(IngestMetrics(CollectorRegistry())))


def of_worker() -> list[Declared]:
    return list(_declared(WorkerMetrics(CollectorRegistry())))


def page() -> str:
    parts = [INTRODUCTION]
    for title, metrics in (("Both roles", of_process()), ("Ingest", of_ingest()), ("Worker", of_worker())):
        rows = [f"| `{m.name}` | {m.kind} | {', '.join(m.labels)} | {m.help} |" for m in metrics]
        parts.append(
            "\n".join([f"## {title}\n", "| metric | type | labels | what it is |", "|---|---|---|---|", *rows])
        )
    return "\n".join(part if part.endswith("\n") else part + "\n" for part in parts)


def _declared(metrics: object) -> Iterator[Declared]:
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            yield _of(metric, str(metric._type), metric._labelnames)
        elif isinstance(metric, Tally | Distribution | ByPartition):
            yield _of(metric, metric.type, metric.labelnames)


def _of(metric: Any, kind: str, labels: tuple[str, ...]) -> Declared:
    (family,) = metric.describe()
    return Declared(family.name + ("_total" if kind == "counter" else ""), kind, labels, family.documentation)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
