"""The plugins that are loaded, by name and version, and which of them a request gets.

Finding is on the path of every request: one look-up in a dict without a requirement, and one with a requirement that
was asked for before. What is found is remembered until the set changes. Requirements come from whoever publishes, so
what is remembered is bounded, and only what was found is.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from warren.manifests import VersionReq

from .errors import PluginNotFound
from .plugin import Plugin

#: Pairs of a name and a requirement whose answers are remembered; beyond it all are forgotten.
REMEMBERED: Final = 1_024


class LoadedPlugins:
    """Every version of every plugin, each once."""

    def __init__(self) -> None:
        #: How often the set has changed.
        self.changes = 0
        self._versions: dict[str, dict[str, Plugin]] = {}
        self._first_choice: dict[str, Plugin] = {}
        self._resolved: dict[tuple[str, VersionReq | str], Plugin] = {}

    def __len__(self) -> int:
        return sum(map(len, self._versions.values()))

    def __iter__(self) -> Iterator[Plugin]:
        return iter([plugin for versions in self._versions.values() for plugin in versions.values()])

    def versions(self, name: str) -> tuple[Plugin, ...]:
        """The loaded versions of one plugin, the lowest first."""
        return tuple(sorted(self._versions.get(name, {}).values(), key=_rank))

    def get(self, name: str, version: str) -> Plugin | None:
        return self._versions.get(name, {}).get(version)

    def put(self, plugin: Plugin) -> None:
        """Take it in, in the place of the same version if that is there."""
        self._versions.setdefault(plugin.name, {})[plugin.version] = plugin
        self._changed(plugin.name)

    def remove(self, plugin: Plugin) -> None:
        versions = self._versions[plugin.name]
        del versions[plugin.version]
        if not versions:
            del self._versions[plugin.name]
        self._changed(plugin.name)

    def _changed(self, name: str) -> None:
        self.changes += 1
        self._resolved.clear()
        self._first_choice.pop(name, None)
        if versions := self.versions(name):
            self._first_choice[name] = next(
                (one for one in reversed(versions) if not one.manifest.version.prerelease), versions[-1]
            )

    def find(self, name: str, requirement: VersionReq | str | None = None, *, prefer: str | None = None) -> Plugin:
        """What a request gets; see `PluginManager.find`."""
        if prefer is not None and (preferred := self._preferred(name, requirement, prefer)):
            return preferred
        try:
            return self._first_choice[name] if requirement is None else self._resolved[name, requirement]
        except KeyError:
            return self._resolve(name, requirement)

    def _preferred(self, name: str, requirement: VersionReq | str | None, version: str) -> Plugin | None:
        plugin = self.get(name, version)
        if plugin is None or requirement is None or _parsed(requirement).matches(plugin.manifest.version):
            return plugin
        return None

    def _resolve(self, name: str, requirement: VersionReq | str | None) -> Plugin:
        versions = self.versions(name)
        if requirement is not None:
            parsed = _parsed(requirement)
            for plugin in reversed(versions):
                if parsed.matches(plugin.manifest.version):
                    if len(self._resolved) >= REMEMBERED:
                        self._resolved.clear()
                    self._resolved[name, requirement] = plugin
                    return plugin
        loaded = tuple(plugin.version for plugin in versions)
        raise PluginNotFound(name, None if requirement is None else str(requirement), loaded)


@lru_cache(maxsize=REMEMBERED)
def _parsed(requirement: VersionReq | str) -> VersionReq:
    return VersionReq.parse(requirement) if isinstance(requirement, str) else requirement


def _rank(plugin: Plugin) -> tuple[object, ...]:
    version = plugin.manifest.version
    return (version, plugin.version)  # versions that differ in their build alone are equal by precedence
