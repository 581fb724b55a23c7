"""The rollouts of one worker: where they begin, what is decided of them, and what they come to.

A rollout begins when a version whose manifest has `[rollout]` is loaded beside lower ones, or by an order. There is one
for each plugin: the highest such version against the highest other one. It ends when one of the two is no longer
loaded, or a higher one is that nothing was said of. What was decided of a version holds in this process for as long as
its files hold the same, also when it is unloaded and loaded again in between.

Each worker decides for itself, from its own runs: there is no state that is shared, and none that outlives the process.
Since a caller's side is a matter of its key alone (see `sticky`), it is the same in all of them, until one decides.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from warren.manifests import Rollout
from warren.plugins import LifecycleEvent, Plugin, PluginError, PluginManager, PluginRefused

from .metrics import SHADOW_RESULTS, WorkerMetrics
from .rollout import NEXT, State, Step, Tally
from .routes import Route, release_first, route
from .shadows import ShadowRuns
from .text import printable
from .trial import Trial

_log = logging.getLogger(__name__)

_DEFAULT_POLICY: Final = Rollout()


class RolloutRefused(PluginError):
    """An order that cannot be followed; nothing has changed."""

    def __init__(self, plugin: str, reason: str) -> None:
        super().__init__(plugin, reason)
        self.plugin = plugin
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.plugin}: {self.reason}"


@dataclass(frozen=True, slots=True)
class RolloutChange:
    """`decision`: `started`, `promoted`, `rolled_back`, or `ended` (undecided: a version came or went)."""

    plugin: str
    version: str
    base: str
    decision: str
    reason: str


@dataclass(frozen=True, slots=True)
class Counted:
    """One side of a rollout since its window began. `mean_fuel` is that of runs that ended `ok`."""

    version: str
    requests: int
    failures: int
    outcomes: dict[str, int]
    mean_fuel: float | None


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """A rollout as it stands. `reason`: why it was decided, or what is waited for. `since`: it began, in epoch seconds.

    `ready`: the counts are sound, and an order is waited for. `shadow_runs`: a shadow's, by what came of them.
    """

    plugin: str
    state: State
    reason: str
    since: float
    ready: bool
    elapsed_s: float
    policy: dict[str, Any]
    new: Counted
    old: Counted
    shadow_runs: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Decided:
    """What was decided of a version that was loaded from files with this digest."""

    digest: bytes
    state: State
    reason: str


class Rollouts:
    """Between `open` and `close` it follows what `manager` loads. It belongs to one event loop."""

    def __init__(
        self, manager: PluginManager, metrics: WorkerMetrics, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        #: For whoever picks a version: by the name of the plugin, where there is anything to pick.
        self.routes: dict[str, Route] = {}
        #: Called with each change.
        self.on_change: Callable[[RolloutChange], None] | None = None
        self._manager = manager
        self._metrics = metrics
        self._clock = clock
        self._shadows = ShadowRuns(metrics)
        self._trials: dict[str, Trial] = {}
        self._decided: dict[tuple[str, str], _Decided] = {}
        self._end_observing: Callable[[], None] = lambda: None

    def open(self) -> None:
        """Begin what the loaded plugins ask for, and follow them from now on."""
        self._end_observing = self._manager.observe(self._on_event)
        for name in {plugin.name for plugin in self._manager.plugins()}:
            self._review(name)

    async def close(self) -> None:
        """Decide nothing more, and drop shadow runs under way. Idempotent."""
        self._end_observing()
        for trial in self._trials.values():
            trial.over = True
        await self._shadows.close()

    # Orders.

    def start(self, name: str, version: str | None = None, **changes: Any) -> None:
        """Begin a rollout, whatever was decided before. Raises `RolloutRefused`.

        Without a version it is that of the highest. `changes` are fields of `Rollout`, and take the place of what its
        manifest says. What is rolled out already, and is another, is rolled back.
        """
        versions = self._versions(name)
        candidate = versions[-1] if versions and version is None else _of_version(versions, version)
        if candidate is None:
            loaded = ", ".join(one.version for one in versions)
            reason = f"version {version} is not loaded; loaded: {loaded}" if loaded else "no version of it is loaded"
            raise RolloutRefused(name, reason)
        before = self._trials.get(name)
        running = before if before is not None and before.is_running and before.candidate is not candidate else None
        base = self._base(versions, candidate, *([running.candidate] if running else []))
        if base is None:
            raise RolloutRefused(name, f"no other version is loaded that {candidate.version} could be compared with")
        if running is not None:
            self._step(running, Step.ROLL_BACK, f"{candidate.version} is rolled out instead, by order")
        self._decided.pop(candidate.identity, None)
        stated = candidate.manifest.rollout or _DEFAULT_POLICY
        self._begin(candidate, base, Rollout.model_validate(stated.model_dump() | changes), ordered=True)
        self._reroute(name)

    def promote(self, name: str, reason: str = "by order") -> None:
        """Have the new version get all requests. Raises `RolloutRefused` where nothing is rolled out."""
        self._step(self._trial(name), Step.PROMOTE, reason)

    def roll_back(self, name: str, reason: str = "by order") -> None:
        """Have the new version get none, also after it was promoted. Raises `RolloutRefused`."""
        self._step(self._trial(name), Step.ROLL_BACK, reason)

    def status(self) -> tuple[RolloutStatus, ...]:
        """All rollouts, those that were decided too, by the names of their plugins."""
        return tuple(_status(trial) for _, trial in sorted(self._trials.items()))

    def _trial(self, name: str) -> Trial:
        if (trial := self._trials.get(name)) is None:
            raise RolloutRefused(name, "nothing is rolled out; start a rollout first")
        return trial

    def _step(self, trial: Trial, step: Step, reason: str) -> None:
        state = NEXT[trial.state].get(step)
        if state is None:
            raise RolloutRefused(trial.name, f"{trial.candidate.version} is {trial.state.replace('_', ' ')} already")
        trial.state, trial.reason, trial.ready = state, reason, False
        self._decided[trial.candidate.identity] = _Decided(trial.candidate.digest, state, reason)
        self._reroute(trial.name)
        level = logging.WARNING if state is State.ROLLED_BACK else logging.INFO
        self._tell(trial, state.value, reason, level)

    # What is loaded.

    def _on_event(self, event: LifecycleEvent) -> None:
        if not isinstance(event, PluginRefused):
            self._review(event.plugin.name)

    def _review(self, name: str) -> None:
        """Bring the rollout of a plugin into line with what is loaded."""
        versions = self._versions(name)
        self._forget_changed(versions)
        trial = self._trials.get(name)
        if trial is not None and (newer := self._newest(versions, above=trial.candidate)):
            if trial.is_running:
                self._step(trial, Step.FAILED, f"{newer.version} was loaded before it was decided on")
            self._begin_as_it_says(newer, versions)
        trial = self._trials.get(name)
        if trial is not None and (reason := self._follow(trial, versions)):
            self._end(trial, reason)
        if name not in self._trials and (newest := self._newest(versions)):
            self._begin_as_it_says(newest, versions)
        self._reroute(name)

    def _newest(self, versions: tuple[Plugin, ...], *, above: Plugin | None = None) -> Plugin | None:
        """The highest version that asks to be rolled out. With `above` only one that is, and was not decided on."""
        newest = next((one for one in reversed(versions) if one.manifest.rollout), None)
        if newest is None or above is None:
            return newest
        return newest if _is_higher(newest, above) and newest.identity not in self._decided else None

    def _begin_as_it_says(self, candidate: Plugin, versions: tuple[Plugin, ...]) -> None:
        base = self._base(versions, candidate)
        if base is not None and candidate.manifest.rollout and _is_higher(candidate, base):
            self._begin(candidate, base, candidate.manifest.rollout)

    def _forget_changed(self, versions: tuple[Plugin, ...]) -> None:
        """What was decided of a version does not hold for other content of the same number."""
        for plugin in versions:
            decided = self._decided.get(plugin.identity)
            if decided is not None and decided.digest != plugin.digest:
                del self._decided[plugin.identity]

    def _follow(self, trial: Trial, versions: tuple[Plugin, ...]) -> str | None:
        """Take over what was loaded anew with the same content; why the trial cannot go on, if it cannot."""
        candidate = _of_version(versions, trial.candidate.version)
        if candidate is None:
            return "it was unloaded"
        if candidate.digest != trial.candidate.digest:
            return "it was loaded anew, and is another"
        base = self._base(versions, candidate)
        if base is None:
            return f"{trial.base.version} was unloaded, and nothing else is there"
        if _is_higher(base, candidate) and _is_higher(base, trial.base):
            return f"{base.version} was loaded"
        if (base.identity, base.digest) != (trial.base.identity, trial.base.digest):
            trial.begin_window()
        trial.candidate, trial.base = candidate, base
        return None

    def _begin(self, candidate: Plugin, base: Plugin, policy: Rollout, *, ordered: bool = False) -> None:
        if (before := self._trials.get(candidate.name)) is not None:
            self._end(before, f"a rollout of {candidate.version} takes its place")
        trial = Trial(candidate, base, policy, shadows=self._shadows, decide=self._step, clock=self._clock)
        self._trials[candidate.name] = trial
        decided = self._decided.get(candidate.identity)
        if decided is not None:
            trial.state, trial.reason = decided.state, decided.reason
            return
        how = "by order" if ordered else "its manifest says so"
        self._tell(trial, "started", how)

    def _end(self, trial: Trial, reason: str) -> None:
        was_running = trial.is_running
        self._forget(trial)
        if was_running:
            self._tell(trial, "ended", reason)

    def _forget(self, trial: Trial) -> None:
        trial.over = True
        del self._trials[trial.name]
        self._metrics.rollout_percent.pop((trial.name, trial.candidate.version), None)

    def _reroute(self, name: str) -> None:
        versions = self._versions(name)
        trial = self._trials.get(name)
        found = route(versions, trial, [one for one in versions if self._is_rolled_back(one)])
        if found is None:
            self.routes.pop(name, None)
        else:
            self.routes[name] = found
        if trial is not None:
            self._metrics.rollout_percent[name, trial.candidate.version] = _percent(trial)

    def _tell(self, trial: Trial, decision: str, reason: str, level: int = logging.INFO) -> None:
        version, base = trial.candidate.version, trial.base.version
        if decision == "started":
            words = f"rolling out {trial.name} {version} beside {base}"
        else:
            words = f"{decision.replace('_', ' ')} {trial.name} {version}"
        _log.log(level, "%s: %s", words, printable(reason))
        self._metrics.rollout_decided(trial.name, decision)
        if self.on_change is not None:
            self.on_change(RolloutChange(trial.name, version, base, decision, reason))

    def _versions(self, name: str) -> tuple[Plugin, ...]:
        """Those loaded, the lowest first."""
        return tuple(sorted((one for one in self._manager.plugins() if one.name == name), key=_rank))

    def _base(self, versions: tuple[Plugin, ...], *besides: Plugin) -> Plugin | None:
        """What requests without a requirement get, besides those."""
        others = [one for one in reversed(versions) if one not in besides and not self._is_rolled_back(one)]
        return release_first(others)

    def _is_rolled_back(self, plugin: Plugin) -> bool:
        decided = self._decided.get(plugin.identity)
        return decided is not None and decided.state is State.ROLLED_BACK


def _of_version(versions: tuple[Plugin, ...], version: str | None) -> Plugin | None:
    return next((one for one in versions if one.version == version), None)


def _rank(plugin: Plugin) -> tuple[Any, str]:
    return plugin.manifest.version, plugin.version  # builds that differ alone are equal by precedence


def _is_higher(plugin: Plugin, other: Plugin) -> bool:
    return _rank(plugin) > _rank(other)


def _percent(trial: Trial) -> float:
    """How many of a hundred requests are answered by the new version."""
    shares = {State.CANARY: trial.policy.percent, State.PROMOTED: 100.0}
    return shares.get(trial.state, 0.0)


def _status(trial: Trial) -> RolloutStatus:
    return RolloutStatus(
        plugin=trial.name,
        state=trial.state,
        reason=trial.reason,
        since=trial.since,
        ready=trial.ready,
        elapsed_s=trial.elapsed_s,
        policy=trial.policy.model_dump(),
        new=_counted(trial, trial.candidate, trial.new),
        old=_counted(trial, trial.base, trial.old),
        shadow_runs={result: trial.shadow_runs[result] for result in SHADOW_RESULTS if trial.policy.shadow},
    )


def _counted(trial: Trial, plugin: Plugin, tally: Tally) -> Counted:
    outcomes = dict(tally.outcomes)
    return Counted(plugin.version, tally.requests, tally.failures(trial.policy), outcomes, tally.mean_fuel)
