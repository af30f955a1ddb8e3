"""Writes what is generated of the chart: `make chart`."""

from tests.chart.generated import GENERATED

for path, text in GENERATED.items():
    path.write_text(text(), encoding="utf-8")
