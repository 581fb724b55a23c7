"""What OpenTelemetry's SDK reads of a worker's counters, where it was set up."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from warren.plugins import Outcome
from warren.workers.metrics import WorkerMetrics
from warren.workers.otel_metrics import export_metrics


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_counters_are_read_and_histograms_are_recorded() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    metrics = WorkerMetrics(in_flight=lambda: 2)
    metrics.expect("mole")
    export_metrics(metrics, provider.get_meter("test"))
    metrics.processed("mole", Outcome("ok", fuel=5, memory_bytes=65_536, duration_us=2_000))
    metrics.processed("mole", Outcome("trap", fuel=9, memory_bytes=65_536, duration_us=4_000))
    metrics.processed("", Outcome("rejected"))
    metrics.retried("mole")
    found = points(reader)
    provider.shutdown()

    duration = {point.attributes["warren.outcome"]: point for point in found["messaging.process.duration"]}
    assert {kind: (point.count, point.sum) for kind, point in duration.items()} == {
        "ok": (1, 0.002),
        "trap": (1, 0.004),
        "rejected": (1, 0),
    }
    assert duration["trap"].attributes == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "warren.plugin.name": "mole",
        "warren.outcome": "trap",
        "error.type": "trap",
    }
    assert "warren.plugin.name" not in duration["rejected"].attributes
    assert sum(point.sum for point in found["warren.run.fuel"]) == 14
    assert sum(point.count for point in found["warren.run.memory"]) == 3
    requests = {point.attributes["warren.outcome"]: point.value for point in found["warren.requests"]}
    assert requests == {"ok": 1, "trap": 1, "rejected": 1}
    retries = {point.attributes["warren.plugin.name"]: point.value for point in found["warren.retries"]}
    assert retries == {"": 0, "mole": 1}
    assert [point.value for point in found["warren.in_flight"]] == [2]
    assert {point.attributes["error.type"] for point in found["warren.publish_failures"]} > {"refused", "timeout"}


def test_nothing_is_recorded_where_nobody_asked_for_it() -> None:
    assert WorkerMetrics(in_flight=lambda: 0).on_processed is None
