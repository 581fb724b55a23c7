"""The order in which plugins are loaded of which several versions may lie side by side, and who goes with whom.

Nobody chooses here: all versions are loaded, and a dependency is met by any of them that its requirement admits. So a
plugin can be loaded when, for each of its dependencies but the optional ones, there is such a version that can be, too.

Rejected: `resolve` for each plugin. One version of each name is the law of what is loaded together on demand; two
plugins that are found on disk may well need different versions of a third.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from semver import Version

from .demands import Demand, PluginVersion
from .errors import DependencyCycle, ResolutionError
from .explanation import unmet
from .manifest import Manifest, PluginDependency


@dataclass(frozen=True, slots=True)
class Refused:
    """A plugin that cannot be loaded, its demand that is not met, and the conflict to blame.

    The conflict may be that of another plugin, which this one needs; all whom it concerns have the same `reason`.
    """

    manifest: Manifest
    demand: Demand
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
    Where a refusal is for others' sake, the reason is that of the highest version.
    """
    plugins = _side_by_side(manifests)
    order = _in_order(plugins)
    return LoadOrder(tuple(one.manifest for one in order), tuple(_refused(plugins, set(order))))


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

    def all_options(self) -> Iterator[_Plugin]:
        return (option for _, options in self.options for option in options)

    def is_met(self, there: AbstractSet[_Plugin]) -> bool:
        return all(not there.isdisjoint(options) for _, options in self.required())

    def loses(self, staying: AbstractSet[_Plugin]) -> bool:
        return any(options and staying.isdisjoint(options) for _, options in self.required())


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
        those = set(waiting)
        free = [one for one in waiting if all(option is one or option not in those for option in one.all_options())]
        next_ones = set(free or _innermost_circle(waiting))
        while ready := [one for one in plugins if one in next_ones and one.is_met(order.keys())]:
            order.update(dict.fromkeys(ready))
            next_ones.difference_update(ready)
    return list(order)


def _innermost_circle(waiting: list[_Plugin]) -> set[_Plugin]:
    """Plugins that wait for each other and for nobody else, where everybody waits for somebody."""
    those = set(waiting)
    needs = {one: [option for option in one.all_options() if option in those] for one in waiting}
    needed_by: defaultdict[_Plugin, list[_Plugin]] = defaultdict(list)
    for one, options in needs.items():
        for option in options:
            needed_by[option].append(one)
    one = waiting[0]
    while further := (inner := _reached(one, needs)) - _reached(one, needed_by):
        one = next(other for other in waiting if other in further)
    return inner


def _reached(start: _Plugin, links: Mapping[_Plugin, list[_Plugin]]) -> set[_Plugin]:
    reached = {start}
    ahead = [start]
    for one in ahead:  # grows
        more = set(links.get(one, ())) - reached
        reached |= more
        ahead.extend(more)
    return reached


def _refused(plugins: list[_Plugin], loadable: AbstractSet[_Plugin]) -> Iterator[Refused]:
    """From one to the highest it needs, until nothing is there, or the circle closes, or the reason is known."""
    versions: defaultdict[str, list[Version]] = defaultdict(list)
    for one in plugins:
        versions[one.manifest.name].append(one.manifest.version)
    demands: dict[_Plugin, Demand] = {}
    reasons: dict[_Plugin, ResolutionError] = {}
    for plugin in plugins:
        if plugin in loadable:
            continue
        way: list[_Plugin] = []
        one = plugin
        while one not in demands:
            dependency, options = next((need, those) for need, those in one.required() if loadable.isdisjoint(those))
            demands[one] = Demand.of(one.manifest, dependency)
            way.append(one)
            if not options:
                reasons[one] = unmet(demands[one], versions.get(dependency.name, ()), versions)
                reasons[one].core = (demands[one],)
            else:
                one = options[-1]
        if one not in reasons:
            circle = way[way.index(one) :]
            reasons[one] = DependencyCycle([PluginVersion.of(other.manifest) for other in circle])
            reasons[one].core = tuple(demands[other] for other in circle)
        reasons |= dict.fromkeys(way, reasons[one])
        yield Refused(plugin.manifest, demands[plugin], reasons[plugin])
