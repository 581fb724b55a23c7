"""What was counted, for OpenTelemetry: counters and gauges are read when they are exported.

Its histograms cannot be read; they are recorded for each delivery, and only where metrics are exported. Names are
OpenTelemetry's for messaging where it has one, in its units: seconds and bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from warren.plugins import Outcome

from .metrics import FAMILIES, Family, WorkerMetrics

_ATTRIBUTES: Final = {
    "plugin": "warren.plugin.name",
    "version": "warren.plugin.version",
    "outcome": "warren.outcome",
    "power": "warren.power",
    "reason": "error.type",
    "decision": "warren.rollout.decision",
    "result": "warren.shadow.result",
}


def export_metrics(metrics: WorkerMetrics, meter: Meter) -> None:
    """Have `meter` export what `metrics` counts."""
    for family in FAMILIES:
        name = family.name.replace("_", ".", 1).removesuffix("_total")
        if family.kind == "counter":
            meter.create_observable_counter(name, [_reader(metrics, family)], description=family.text)
        elif family.kind == "gauge":
            meter.create_observable_gauge(name, [_reader(metrics, family)], description=family.text)
    metrics.on_processed = _recorder(meter)


def _reader(metrics: WorkerMetrics, family: Family) -> Callable[[CallbackOptions], Iterable[Observation]]:
    names = [_ATTRIBUTES[label] for label in family.labels]

    def read(_: CallbackOptions) -> Iterable[Observation]:
        for labels, value in metrics.snapshot()[family.name].items():
            if isinstance(value, (int, float)):
                yield Observation(value, dict(zip(names, labels, strict=True)))

    return read


def _recorder(meter: Meter) -> Callable[[str, Outcome], None]:
    duration = meter.create_histogram("messaging.process.duration", unit="s", description="Time a plugin's run took.")
    fuel = meter.create_histogram("warren.run.fuel", unit="{fuel}", description="Fuel a run used.")
    memory = meter.create_histogram("warren.run.memory", unit="By", description="Peak linear memory of a run.")

    def record(plugin: str, outcome: Outcome) -> None:
        attributes = {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": "process",
            "warren.outcome": outcome.kind,
        }
        if plugin:
            attributes["warren.plugin.name"] = plugin
        if outcome.kind not in ("ok", "failed"):
            attributes["error.type"] = outcome.kind
        duration.record(outcome.duration_us / 1_000_000, attributes)
        fuel.record(outcome.fuel, attributes)
        memory.record(outcome.memory_bytes, attributes)

    return record
