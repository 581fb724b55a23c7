"""The worker's metrics, through the OpenTelemetry API: they cost next to nothing until an SDK is set up.

Names are OpenTelemetry's for messaging where it has one, in its units: seconds and bytes.
"""

from __future__ import annotations

from opentelemetry import metrics

from warren.plugins import Outcome


class WorkerMetrics:
    """What is counted per delivery. No attribute is an id: their values are few."""

    def __init__(self) -> None:
        meter = metrics.get_meter("warren.workers")
        self._processed = meter.create_histogram(
            "messaging.process.duration", unit="s", description="Time a plugin's run took."
        )
        self._fuel = meter.create_histogram("warren.run.fuel", unit="{fuel}", description="Fuel a run used.")
        self._memory = meter.create_histogram(
            "warren.run.memory", unit="By", description="Peak linear memory of a run."
        )

    def processed(self, plugin: str | None, outcome: Outcome) -> None:
        """One delivery, served; `plugin` is None when none is served by that name."""
        attributes = {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": "process",
            "warren.outcome": outcome.kind,
        }
        if plugin is not None:
            attributes["warren.plugin.name"] = plugin
        if outcome.kind not in ("ok", "failed"):
            attributes["error.type"] = outcome.kind
        self._processed.record(outcome.duration_us / 1_000_000, attributes)
        self._fuel.record(outcome.fuel, attributes)
        self._memory.record(outcome.memory_bytes, attributes)
