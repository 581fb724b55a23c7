"""What a worker does when it is ordered to: one function for each order, and the table that knows them.

A question is answered at once, from what is there. An order that takes time is a coroutine: it is begun only when there
is room for it, and nothing else waits for it. A `PluginError` or `ManifestError` is answered in its own words.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version as distribution_version
from types import MappingProxyType
from typing import Any, Final

from warren.bus import (
    Announcement,
    Drain,
    Inspect,
    ListPlugins,
    ListRollouts,
    Order,
    Ping,
    Reload,
    StepRollout,
    Unload,
    WorkerState,
)
from warren.plugins import Plugin, PluginManager, PluginNotFound
from warren.plugins.plugin import parked_info

from . import metrics
from .plugin_data import public_data
from .roster import host
from .worker import Worker

Answered = dict[str, Any]
Handler = Callable[["Here", Any], Answered | Coroutine[Any, Any, Answered]]

#: What is counted, by the name it has in an answer.
COUNTERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "requests": metrics.REQUESTS.name,
        "retries": metrics.RETRIES.name,
        "dead_letters": metrics.DEAD_LETTERS.name,
        "duplicates": metrics.DUPLICATES.name,
        "passed_on": metrics.PASSED_ON.name,
        "guest_messages": metrics.GUEST_MESSAGES.name,
        "publish_failures": metrics.PUBLISH_FAILURES.name,
        "given_back": metrics.GIVEN_BACK.name,
    }
)


@dataclass(frozen=True, slots=True)
class Here:
    """What orders are about: this worker, with its plugins. `stop` has its process drain and end; see `run_worker`."""

    worker: Worker
    manager: PluginManager
    obeys: bool
    stop: Callable[[], None]
    started: datetime

    def announcement(self, state: WorkerState | None = None) -> Announcement:
        """How it tells others of itself."""
        return Announcement(
            worker=self.worker.name,
            host=host(),
            pid=os.getpid(),
            started=self.started,
            warren=distribution_version("warren"),
            state=state or (WorkerState.DRAINING if self.worker.is_draining else WorkerState.SERVING),
            plugins={name: tuple(one.version for one in versions) for name, versions in self._versions().items()},
        )

    def _versions(self) -> dict[str, list[Plugin]]:
        """The plugins by name, the lowest version first."""
        versions = defaultdict[str, list[Plugin]](list)
        for plugin in sorted(self.manager.plugins(), key=lambda one: (one.name, one.manifest.version, one.version)):
            versions[plugin.name].append(plugin)
        return versions


def ping(here: Here, _: Ping) -> Answered:
    return here.announcement().model_dump(mode="json", exclude={"plugins", "worker"}) | {"orders": here.obeys}


def list_plugins(here: Here, _: ListPlugins) -> Answered:
    counted = here.worker.metrics.snapshot()
    sums = {name: sum(_numbers(counted[family])) for name, family in COUNTERS.items()}
    return ping(here, Ping()) | {
        "in_flight": sum(_numbers(counted[metrics.IN_FLIGHT.name])),
        "counters": sums,
        "plugins": [asdict(info) for info in here.manager.list_plugins()],
    }


def inspect(here: Here, order: Inspect) -> Answered:
    versions = [
        (plugin.manifest, plugin.grant, plugin.info(), plugin.in_flight)
        for plugin in here.manager.plugins()
        if plugin.name == order.plugin
    ]
    versions += [
        (one.manifest, one.grant, parked_info(one), 0)
        for one in here.manager.parked()
        if one.manifest.name == order.plugin
    ]
    if not versions:
        raise PluginNotFound(order.plugin)
    versions.sort(key=lambda one: (one[0].version, one[2].version))
    return {
        "versions": [
            public_data(manifest, granted) | asdict(info) | {"in_flight": in_flight}
            for manifest, granted, info, in_flight in versions
        ]
    }


async def reload(here: Here, order: Reload) -> Answered:
    plugin = await here.manager.reload_plugin(order.plugin, order.version)
    return {"plugin": plugin.name, "version": plugin.version}


async def unload(here: Here, order: Unload) -> Answered:
    before = {plugin.identity for plugin in here.manager.plugins()}
    await here.manager.unload_plugin(order.plugin, order.version, with_dependants=order.with_dependants)
    gone = before - {plugin.identity for plugin in here.manager.plugins()}
    return {"unloaded": [{"plugin": name, "version": version} for name, version in sorted(gone)]}


def list_rollouts(here: Here, order: ListRollouts) -> Answered:
    if order.plugin is not None:
        _check_loaded(here, order.plugin)
    statuses = here.worker.rollouts.status()
    return {"rollouts": [asdict(one) for one in statuses if order.plugin in (None, one.plugin)]}


def step_rollout(here: Here, order: StepRollout) -> Answered:
    _check_loaded(here, order.plugin)
    rollouts = here.worker.rollouts
    if order.step == "start":
        changed = {"percent": order.percent, "shadow": order.shadow}
        rollouts.start(
            order.plugin, order.version, **{name: value for name, value in changed.items() if value is not None}
        )
    elif order.step == "promote":
        rollouts.promote(order.plugin)
    else:
        rollouts.roll_back(order.plugin)
    return list_rollouts(here, ListRollouts(plugin=order.plugin))


def _check_loaded(here: Here, name: str) -> None:
    if not any(plugin.name == name for plugin in here.manager.plugins()):
        raise PluginNotFound(name)


def drain(here: Here, _: Drain) -> Answered:
    here.stop()
    return {"in_flight": sum(_numbers(here.worker.metrics.snapshot()[metrics.IN_FLIGHT.name]))}


#: What is done for each order.
HANDLERS: Final[Mapping[type[Order], Handler]] = MappingProxyType(
    {
        Ping: ping,
        ListPlugins: list_plugins,
        Inspect: inspect,
        Reload: reload,
        Unload: unload,
        ListRollouts: list_rollouts,
        StepRollout: step_rollout,
        Drain: drain,
    }
)


def now() -> datetime:
    return datetime.now(UTC)


def _numbers(counted: Mapping[tuple[str, ...], float | metrics.Histogram]) -> list[int]:
    return [int(value) for value in counted.values() if not isinstance(value, metrics.Histogram)]
