"""Counters and histograms for the path of every request: a fifth of a microsecond each, where the client library's take
more than one (it locks for each of them).

Only one thread may count; the scrape reads from another one, and may see a request in one of them that is not in
another yet.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

Labels = tuple[str, ...]


class Tally(Collector):
    """A counter by labels. `begin` at 0, so that the first event of a kind is an increase too."""

    type = "counter"

    def __init__(
        self, name: str, documentation: str, labelnames: Labels, begin: Iterable[Labels], registry: CollectorRegistry
    ) -> None:
        self.name, self.documentation, self.labelnames = name.removesuffix("_total"), documentation, labelnames
        self._counts = dict.fromkeys(begin, 0)
        registry.register(self)

    def inc(self, labels: Labels, count: int = 1) -> None:
        self._counts[labels] = self._counts.get(labels, 0) + count

    def describe(self) -> Iterator[Metric]:
        yield CounterMetricFamily(self.name, self.documentation, labels=self.labelnames)

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self.name, self.documentation, labels=self.labelnames)
        for labels, count in list(self._counts.items()):
            family.add_metric(labels, count)
        yield family


class Distribution(Collector):
    """A histogram. `bounds`: upper ones of its buckets, ascending, infinity aside."""

    type = "histogram"
    labelnames: Labels = ()

    def __init__(self, name: str, documentation: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        self.name, self.documentation = name, documentation
        self._bounds = tuple(bounds)
        self._labels = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._counts = [0] * len(self._labels)
        self._sum = 0.0
        registry.register(self)

    def observe(self, value: float, count: int = 1) -> None:
        """`count` values, none greater than this one."""
        self._counts[bisect_left(self._bounds, value)] += count
        self._sum += value * count

    def describe(self) -> Iterator[Metric]:
        yield HistogramMetricFamily(self.name, self.documentation)

    def collect(self) -> Iterator[Metric]:
        buckets = list(zip(self._labels, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self.name, self.documentation, buckets=buckets, sum_value=self._sum)


class ByPartition(Collector):
    """A gauge for each partition that somebody asks of now: none is left of one that went."""

    type = "gauge"
    labelnames: Labels = ("partition",)

    def __init__(self, name: str, documentation: str, registry: CollectorRegistry) -> None:
        self.name, self.documentation = name, documentation
        self._read: Callable[[], Mapping[int, float]] = dict
        registry.register(self)

    def set_function(self, read: Callable[[], Mapping[int, float]]) -> None:
        """Called by the scrape, in its thread: must neither wait nor raise."""
        self._read = read

    def describe(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(self.name, self.documentation, labels=self.labelnames)

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(self.name, self.documentation, labels=self.labelnames)
        for partition, value in sorted(self._read().items()):
            family.add_metric((str(partition),), value)
        yield family
