"""The order in which plugins are loaded of which several versions may lie side by side, and who goes with whom.

Nobody chooses here: all versions are loaded, and a dependency is met by any of them that its requirement admits. So a
plugin can be loaded when, for each of its dependencies but the optional ones, there is such a version that can be, too.

Rejected: `resolve` for each plugin. One version of each name is the law of what is loaded together on demand; two
plugins that are found on disk may well need different versions of a third.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from semver import Version

from .demands import Demand, PluginVersion
from .errors import DependencyCycle, DependencyMissing, NoVersionMatches, ResolutionError
from .findings import nearest
from .manifest import Manifest, PluginDependency


@dataclass(frozen=True, slots=True)
class Refused:
    """A plugin that cannot be loaded, and the conflict to blame: its own, or that of one it needs."""

    manifest: Manifest
    reason: ResolutionError


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """What to load, in this order; and what not, by name and version."""

    order: tuple[Manifest, ...]
    refused: tuple[Refused, ...] = ()


def load_order(manifests: Iterable[Manifest]) -> LoadOrder:
    """All of `manifests` whose dependencies can be met among them, each after what it needs.

    A plugin comes after one version at least for each of its dependencies that is not optional; and after all versions
    that any of its dependencies admits, but for those that in turn depend on it. Else the order is by name and version.
    The reason of a refusal follows the highest versions; its `core` is the way from the plugin to the conflict.
    """
    plugins = _side_by_side(manifests)
    order = _in_order(plugins)
    loadable = set(order)
    refused = (Refused(one.manifest, _conflict(one, loadable, plugins)) for one in plugins if one not in loadable)
    return LoadOrder(tuple(one.manifest for one in order), tuple(refused))


def dependants(leaving: Iterable[Manifest], loaded: Iterable[Manifest]) -> tuple[Manifest, ...]:
    """Those of `loaded` that cannot stay when `leaving` go, in the order in which to unload them: all before `leaving`.

    They are the ones with a dependency, not optional, that is met now, and that no version meets which stays. On the
    way nobody is left without what it needs, except in a circle (plugins of which one was loaded when it could do with
    a version that has gone since).
    """
    plugins = _side_by_side(loaded)
    names = {_identity(manifest) for manifest in leaving}
    staying = {one for one in plugins if _identity(one.manifest) not in names}
    broken: set[_Plugin] = set()
    while more := {one for one in staying if one.loses(staying)}:
        staying -= more
        broken |= more
    order = _in_order(plugins)
    in_circles = [one for one in plugins if one not in order]
    return tuple(one.manifest for one in reversed(order + in_circles) if one in broken)


@dataclass(frozen=True, slots=True, eq=False)
class _Plugin:
    """A plugin among others: `options` has those that meet each of its dependencies, from low to high."""

    manifest: Manifest
    options: list[tuple[PluginDependency, list[_Plugin]]]

    def required(self) -> Iterator[tuple[PluginDependency, list[_Plugin]]]:
        return ((dependency, options) for dependency, options in self.options if not dependency.optional)

    def is_met(self, there: AbstractSet[_Plugin]) -> bool:
        return all(not there.isdisjoint(options) for _, options in self.required())

    def loses(self, staying: AbstractSet[_Plugin]) -> bool:
        return any(options and staying.isdisjoint(options) for _, options in self.required())

    def waits_for(self, waiting: AbstractSet[_Plugin]) -> set[_Plugin]:
        """Those of `waiting` that this depends on, directly or not."""
        found: set[_Plugin] = set()
        ahead: list[_Plugin] = [self]
        for one in ahead:  # grows
            more = {option for _, options in one.options for option in options if option in waiting} - found
            found |= more
            ahead.extend(more)
        return found


def _side_by_side(manifests: Iterable[Manifest]) -> list[_Plugin]:
    """By name and version, so that nothing depends on the order in which they were found."""
    plugins = [_Plugin(manifest, []) for manifest in sorted(manifests, key=_identity)]
    versions: defaultdict[str, list[_Plugin]] = defaultdict(list)
    for plugin in plugins:
        versions[plugin.manifest.name].append(plugin)
    for plugin in plugins:
        for dependency in plugin.manifest.dependencies:
            found = versions.get(dependency.name, ())
            options = [one for one in found if dependency.version_req.matches(one.manifest.version)]
            plugin.options.append((dependency, options))
    return plugins


def _identity(manifest: Manifest) -> tuple[str, Version, str]:
    return manifest.name, manifest.version, str(manifest.version)  # versions that differ in build metadata are equal


def _in_order(plugins: list[_Plugin]) -> list[_Plugin]:
    """Those that can be loaded."""
    loadable: set[_Plugin] = set()
    while more := {one for one in plugins if one not in loadable and one.is_met(loadable)}:
        loadable |= more
    order: dict[_Plugin, None] = {}
    while waiting := [one for one in plugins if one in loadable and one not in order]:
        order.update(dict.fromkeys(_next(waiting, order.keys())))
    return list(order)


def _next(waiting: list[_Plugin], there: AbstractSet[_Plugin]) -> list[_Plugin]:
    """Those that wait for nobody; where all do, the first in the innermost circle of those that wait for each other."""
    those = set(waiting)
    ready = [one for one in waiting if one.is_met(there)]
    waits = {one: one.waits_for(those) - {one} for one in ready}
    return [one for one in ready if not waits[one]] or [min(ready, key=lambda one: len(waits[one]))]


def _conflict(plugin: _Plugin, loadable: AbstractSet[_Plugin], plugins: list[_Plugin]) -> ResolutionError:
    """Why `plugin` cannot be loaded: from one to the highest it needs, until nothing is there or the circle closes."""
    way: dict[_Plugin, Demand] = {}
    error: ResolutionError | None = None
    while error is None:
        dependency, options = next((one, those) for one, those in plugin.required() if loadable.isdisjoint(those))
        way[plugin] = Demand.of(plugin.manifest, dependency)
        if not options:
            error = _unmet(way[plugin], plugins)
        elif (plugin := options[-1]) in way:
            circle = list(way)[list(way).index(plugin) :]
            error = DependencyCycle([PluginVersion.of(one.manifest) for one in circle])
    error.core = tuple(way.values())
    return error


def _unmet(demand: Demand, plugins: list[_Plugin]) -> ResolutionError:
    available = [one.manifest.version for one in plugins if one.manifest.name == demand.name]
    if available:
        return NoVersionMatches(demand, available)
    return DependencyMissing(demand, nearest(demand.name, {one.manifest.name: None for one in plugins}))
