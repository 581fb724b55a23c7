"""What was counted, for Prometheus: rendered by its official client library, in the format that the scraper asks for.

Only the library's custom collectors are used. Its own instruments take a lock for each value, and with several
processes they keep a file for each, which every scrape reads in whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from .metrics import FAMILIES, Family, Histogram
from .vitals import READY, RESTARTS, Vitals


def exposition(vitals: Vitals, accept: str = "") -> tuple[bytes, str]:
    """Everything that was counted, and its content type: what of the formats in `accept` the library has."""
    picture = _Picture(vitals)
    encode, content_type = choose_encoder("")
    with suppress(TypeError):  # the library stumbles over a version that is no number
        encode, content_type = choose_encoder(accept)
    return encode(picture), content_type


class _Picture:
    """A `prometheus_client.registry.Collector` of what there is at one moment."""

    def __init__(self, vitals: Vitals) -> None:
        self._processes = list(vitals.metrics())

    def collect(self) -> Iterable[Metric]:
        for family in (*FAMILIES, READY, RESTARTS):
            if any(family.name in snapshot for _, snapshot in self._processes):
                yield self._metric(family)

    def _metric(self, family: Family) -> Metric:
        labels = (*family.labels, "process") if len(self._processes) > 1 else family.labels
        if family.kind == "histogram":
            histogram = HistogramMetricFamily(family.name, family.text, labels=labels)
            for values, value in self._values(family):
                if isinstance(value, Histogram):
                    histogram.add_metric(values, _buckets(family, value), value.sum)
            return histogram
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        numbers = kind(family.name, family.text, labels=labels)
        for values, value in self._values(family):
            if not isinstance(value, Histogram):
                numbers.add_metric(values, value)
        return numbers

    def _values(self, family: Family) -> Iterator[tuple[tuple[str, ...], float | Histogram]]:
        for process, snapshot in self._processes:
            for labels, value in snapshot.get(family.name, {}).items():
                yield (*labels, *process), value


def _buckets(family: Family, histogram: Histogram) -> list[tuple[str, float]]:
    bounds = (*map(str, family.bounds), "+Inf")
    return list(zip(bounds, accumulate(histogram.counts), strict=True))
