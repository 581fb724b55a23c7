"""What a worker counts: plain numbers, and a picture of them for whoever exports them.

Counting is on the path of every message, so it is one dictionary look-up and some additions: 0.5 µs a request, where an
instrument of prometheus_client or of OpenTelemetry's SDK costs that several times over. Both read the picture instead:
`prometheus` when it is scraped, `otel_metrics` when it exports. (Histograms are what OpenTelemetry cannot read, and so
`on_processed` is called for each delivery where somebody wants them.)

No label is an id, and no label is what a stranger made up: a plugin that nobody serves is counted under the empty name.
The plugins that are served stand there with 0 from the start; an alert on an increase would miss the first one else.
"""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from warren.bus import MessageTooLarge, PublishError, PublishRefused, PublishTimeout, Unroutable
from warren.plugins import Outcome

#: Upper bounds of buckets, as Prometheus has them: what equals a bound is in its bucket. Runs take from some 30 µs to
#: the manifest's time limit; fuel and memory end at the largest limits that the default policy grants.
DURATIONS_US: Final = (
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 250_000, 1_000_000, 5_000_000, 30_000_000,
)  # fmt: skip
FUEL: Final = (10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000, 10_000_000, 50_000_000, 100_000_000)
MEMORY_BYTES: Final = tuple(kib << 10 for kib in (64, 256, 1_024, 4_096, 16_384, 65_536, 262_144))


@dataclass(frozen=True, slots=True)
class Family:
    """A metric as Prometheus has it: its name, what it tells, and its labels; `bounds` only for a histogram."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


_RUN: Final = ("plugin", "outcome")

REQUESTS: Final = Family("warren_requests_total", "counter", "Requests served, each attempt, by how it ended.", _RUN)
DURATION: Final = Family(
    "warren_run_duration_seconds",
    "histogram",
    "Time a plugin's run took, from its new sandbox to its answer.",
    _RUN,
    tuple(bound / 1_000_000 for bound in DURATIONS_US),
)
RUN_FUEL: Final = Family("warren_run_fuel", "histogram", "Fuel a run used.", _RUN, FUEL)
RUN_MEMORY: Final = Family(
    "warren_run_memory_bytes", "histogram", "Peak size of a run's linear memory.", _RUN, MEMORY_BYTES
)
RETRIES: Final = Family("warren_retries_total", "counter", "Requests put off to be tried again.", ("plugin",))
DEAD_LETTERS: Final = Family("warren_dead_letters_total", "counter", "Messages that were dead-lettered.", ("plugin",))
DUPLICATES: Final = Family(
    "warren_duplicates_total", "counter", "Requests dropped since the same was served lately.", ("plugin",)
)
PASSED_ON: Final = Family(
    "warren_passed_on_total", "counter", "Requests left to a worker that has the version they ask for.", ("plugin",)
)
GUEST_MESSAGES: Final = Family(
    "warren_guest_messages_total", "counter", "Messages and events that plugins sent.", ("plugin",)
)
PUBLISH_FAILURES: Final = Family(
    "warren_publish_failures_total", "counter", "Messages the broker did not take, or did not confirm.", ("reason",)
)
ROLLOUT_DECISIONS: Final = Family(
    "warren_rollout_decisions_total", "counter", "What was decided of new versions.", ("plugin", "decision")
)
ROLLOUT_PERCENT: Final = Family(
    "warren_rollout_percent",
    "gauge",
    "How many of a hundred requests a version that is or was rolled out answers.",
    ("plugin", "version"),
)
SHADOW_RUNS: Final = Family(
    "warren_shadow_runs_total", "counter", "Requests for a shadow, by what came of it.", ("plugin", "result")
)
REFUSALS: Final = Family(
    "warren_refusals_total", "counter", "What plugins asked for and may not have.", ("plugin", "power")
)
AUDIT_DROPPED: Final = Family("warren_audit_dropped_total", "counter", "Audit events that the broker did not take.")
GIVEN_BACK: Final = Family("warren_given_back_total", "counter", "Deliveries given back to the broker.")
IN_FLIGHT: Final = Family("warren_in_flight", "gauge", "Deliveries under way.")

FAMILIES: Final = (
    REQUESTS, DURATION, RUN_FUEL, RUN_MEMORY, RETRIES, DEAD_LETTERS, DUPLICATES, PASSED_ON, GUEST_MESSAGES,
    PUBLISH_FAILURES, ROLLOUT_DECISIONS, ROLLOUT_PERCENT, SHADOW_RUNS, REFUSALS, AUDIT_DROPPED, GIVEN_BACK, IN_FLIGHT,
)  # fmt: skip

#: What there is to count of a rollout; they stand there with 0 from its start.
DECISIONS: Final = ("started", "promoted", "rolled_back", "ended")
SHADOW_RESULTS: Final = ("agreed", "differed", "not_compared", "dropped")

#: What is refused of any plugin, or of who calls it, and stands there with 0 from the start. The rest does from its
#: first refusal.
POWERS: Final = ("call_plugin", "hops", "memory", "publish", "reply_to")

_REASONS: Final[dict[type[PublishError], str]] = {
    Unroutable: "unroutable",
    PublishRefused: "refused",
    MessageTooLarge: "refused",
    PublishTimeout: "timeout",
}
_OTHER_REASON: Final = "other"


class Histogram(NamedTuple):
    """How many values fell into each bucket, the last being what exceeds every bound, and their sum.

    A tuple, since a hundred plugins have nearly a thousand, and the pickle of a dataclass takes several times as long.
    """

    counts: tuple[int, ...]
    sum: float


#: By a family's name and the values of its labels.
Snapshot = dict[str, dict[tuple[str, ...], float | Histogram]]


def add(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The sums of counters and histograms. Gauges are left out: what no longer is has none."""
    total: Snapshot = {family.name: {} for family in FAMILIES if family.kind != "gauge"}
    for snapshot in snapshots:
        for name, sums in total.items():
            for labels, value in snapshot.get(name, {}).items():
                sums[labels] = _sum(sums.get(labels), value)
    return total


def _sum(standing: float | Histogram | None, value: float | Histogram) -> float | Histogram:
    if isinstance(value, Histogram):
        if not isinstance(standing, Histogram):
            return value
        counts = tuple(map(operator.add, standing.counts, value.counts))
        return Histogram(counts, standing.sum + value.sum)
    return value + standing if isinstance(standing, (int, float)) else value


class _Runs:
    """What the runs of one plugin with one outcome add up to."""

    __slots__ = ("duration_us", "durations", "fuel", "fuels", "memories", "memory_bytes", "requests")

    def __init__(self) -> None:
        self.requests = self.duration_us = self.fuel = self.memory_bytes = 0
        self.durations = [0] * (len(DURATIONS_US) + 1)
        self.fuels = [0] * (len(FUEL) + 1)
        self.memories = [0] * (len(MEMORY_BYTES) + 1)


class WorkerMetrics:
    """Counts on one event loop; `snapshot` may be called from any thread. `in_flight` tells how much is under way."""

    def __init__(self, in_flight: Callable[[], int]) -> None:
        self.given_back = 0
        self.audit_dropped = 0
        #: Called for each delivery with its plugin and outcome, where somebody wants more than the snapshot has.
        self.on_processed: Callable[[str, Outcome], None] | None = None
        #: By plugin and version, for those that are rolled out: the rollouts' to keep.
        self.rollout_percent: dict[tuple[str, ...], float] = {}
        self._in_flight = in_flight
        self._runs: dict[tuple[str, str], _Runs] = {}
        self._retries = {"": 0}
        self._dead_letters = {"": 0}
        self._duplicates = {"": 0}
        self._passed_on = {"": 0}
        self._guest_messages = {"": 0}
        self._rollout_decisions: dict[tuple[str, ...], float] = {}
        self._shadow_runs: dict[tuple[str, ...], float] = {}
        self._refusals: dict[tuple[str, ...], float] = {}
        self._publish_failures = dict.fromkeys((*_REASONS.values(), _OTHER_REASON), 0)

    def expect(self, plugin: str) -> None:
        """A plugin that is served; only those have a name here."""
        for counts in (
            self._retries, self._dead_letters, self._duplicates, self._passed_on, self._guest_messages,
        ):  # fmt: skip
            counts.setdefault(plugin, 0)
        for power in POWERS:
            self._refusals.setdefault((plugin, power), 0)

    def processed(self, plugin: str, outcome: Outcome) -> None:
        """One delivery, served; `plugin` is empty when none is served by that name."""
        if self.on_processed is not None:
            self.on_processed(plugin, outcome)
        key = (plugin, outcome.kind)
        runs = self._runs.get(key)
        if runs is None:
            runs = self._runs[key] = _Runs()
        runs.requests += 1
        duration_us = outcome.duration_us
        if not duration_us:  # refused before it was run: a duration of 0 would make the others look worse
            return
        fuel, memory_bytes = outcome.fuel, outcome.memory_bytes
        runs.duration_us += duration_us
        runs.durations[bisect_left(DURATIONS_US, duration_us)] += 1
        runs.fuel += fuel
        runs.fuels[bisect_left(FUEL, fuel)] += 1
        runs.memory_bytes += memory_bytes
        runs.memories[bisect_left(MEMORY_BYTES, memory_bytes)] += 1

    def retried(self, plugin: str) -> None:
        _count(self._retries, plugin)

    def dead_lettered(self, plugin: str | None) -> None:
        _count(self._dead_letters, plugin)

    def dropped_duplicate(self, plugin: str) -> None:
        _count(self._duplicates, plugin)

    def passed_on(self, plugin: str) -> None:
        _count(self._passed_on, plugin)

    def guest_sent(self, plugin: str, messages: int) -> None:
        _count(self._guest_messages, plugin, messages)

    def rollout_decided(self, plugin: str, decision: str) -> None:
        for one in DECISIONS:
            self._rollout_decisions.setdefault((plugin, one), 0)
        self._rollout_decisions[plugin, decision] += 1

    def shadow_ran(self, plugin: str, result: str) -> None:
        for one in SHADOW_RESULTS:
            self._shadow_runs.setdefault((plugin, one), 0)
        self._shadow_runs[plugin, result] += 1

    def refused(self, plugin: str, power: str) -> None:
        self._refusals[plugin, power] = self._refusals.get((plugin, power), 0) + 1

    def publish_failed(self, error: PublishError) -> None:
        _count(self._publish_failures, _REASONS.get(type(error), _OTHER_REASON))

    def snapshot(self) -> Snapshot:
        """All of it just now, as plain data that can be pickled."""
        runs = self._runs.copy()  # at once, since another thread may look while the worker counts
        return {
            REQUESTS.name: {key: one.requests for key, one in runs.items()},
            DURATION.name: {
                key: Histogram(tuple(one.durations), one.duration_us / 1_000_000) for key, one in runs.items()
            },
            RUN_FUEL.name: {key: Histogram(tuple(one.fuels), one.fuel) for key, one in runs.items()},
            RUN_MEMORY.name: {key: Histogram(tuple(one.memories), one.memory_bytes) for key, one in runs.items()},
            RETRIES.name: _by_label(self._retries),
            DEAD_LETTERS.name: _by_label(self._dead_letters),
            DUPLICATES.name: _by_label(self._duplicates),
            PASSED_ON.name: _by_label(self._passed_on),
            GUEST_MESSAGES.name: _by_label(self._guest_messages),
            PUBLISH_FAILURES.name: _by_label(self._publish_failures),
            ROLLOUT_DECISIONS.name: dict(self._rollout_decisions),
            ROLLOUT_PERCENT.name: dict(self.rollout_percent),
            SHADOW_RUNS.name: dict(self._shadow_runs),
            REFUSALS.name: dict(self._refusals.copy()),
            AUDIT_DROPPED.name: {(): self.audit_dropped},
            GIVEN_BACK.name: {(): self.given_back},
            IN_FLIGHT.name: {(): self._in_flight()},
        }


def _count(counts: dict[str, int], label: str | None, by: int = 1) -> None:
    counts[label if label in counts else ""] += by


def _by_label(counts: dict[str, int]) -> dict[tuple[str, ...], float | Histogram]:
    return {(label,): count for label, count in counts.copy().items()}
