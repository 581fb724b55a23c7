"""PluginManager: the plugins of one process, loaded from disk, found by name and version, and run.

    async with PluginManager("plugins") as manager:
        outcome = await manager.find("text_processor").run(b'{"action": "get_status", "data": null}')

It knows nothing of a bus; the worker is built on it. Loading is all or nothing for each plugin: manifest, grant,
module, compilation, `initialize`, health. One bad plugin never keeps the others from loading.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from warren.manifests import ManifestError, Policy, VersionReq

from .artefacts import cache_folder
from .checks import CheckedPlugin, check_plugin, plugin_config
from .engine import Engine
from .errors import CompilationFailed, LoadFailed, ModuleRefused, PluginError, PluginNotFound
from .files import PluginFiles, find_plugins
from .host import STANDARD_FUNCTIONS, HostFunction
from .plugin import Plugin, PluginInfo
from .sandbox import Sandbox
from .snapshot import take_snapshot

_log = logging.getLogger(__name__)

DEFAULT_MAX_PLUGINS: Final = 100


class PluginManager:
    """The plugins under one folder, and those loaded one by one. Entering it loads what it finds in the folder.

    Not for use by several threads: it belongs to one event loop.
    """

    def __init__(
        self,
        directory: Path | str | None = None,
        *,
        policy: Policy | None = None,
        max_plugins: int = DEFAULT_MAX_PLUGINS,
        host_functions: Mapping[str, HostFunction] = STANDARD_FUNCTIONS,
    ) -> None:
        self.directory = None if directory is None else Path(directory)
        #: Why plugins that were found are not loaded.
        self.failures: tuple[PluginError | ManifestError, ...] = ()
        self._policy = policy or Policy()
        self._max_plugins = max_plugins
        self._host_functions = host_functions
        self._engine = Engine(cache_folder())
        self._plugins: dict[str, dict[str, Plugin]] = {}

    async def __aenter__(self) -> Self:
        if self.directory is not None:
            await self.discover_and_load()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Unload every plugin, letting each run its `shutdown`. Idempotent."""
        for plugin in self.plugins():
            await self.unload_plugin(plugin.name, plugin.version)

    async def discover_and_load(self) -> tuple[Plugin, ...]:
        """Load every plugin under the folder; what could not be loaded is in `failures`, with the reason.

        Raises `LoadFailed` when there is no such folder.
        """
        if self.directory is None:
            raise PluginError("this manager was given no folder of plugins")
        found = find_plugins(self.directory)
        preparing = [asyncio.ensure_future(self._prepare(files)) for files in found]
        await asyncio.gather(*preparing, return_exceptions=True)
        loaded: list[Plugin] = []
        failures: list[PluginError | ManifestError] = []
        for prepared in preparing:  # in the order of their paths: of two alike it is always the same that is refused
            try:
                loaded.append(self._take_in(prepared.result()))
            except (PluginError, ManifestError) as error:
                _log.warning("not loaded: %s", error)
                failures.append(error)
        self.failures = tuple(failures)
        return tuple(loaded)

    async def load_plugin(self, path: Path | str) -> Plugin:
        """Load the pair that `path`, its `.wasm` or its `.toml`, belongs to.

        Raises `ManifestError` or `LoadFailed`, each naming the file; nothing has changed then.
        """
        return self._take_in(await self._prepare(PluginFiles.beside(Path(path))))

    def _take_in(self, plugin: Plugin) -> Plugin:
        standing = self._plugins.get(plugin.name, {}).get(plugin.version)
        source = str(plugin.files.wasm)
        if standing is not None and standing.files != plugin.files:
            raise LoadFailed(source, f"{plugin.name} {plugin.version} is loaded from {standing.files.wasm} already")
        if standing is None and len(self.plugins()) >= self._max_plugins:
            raise LoadFailed(source, f"{self._max_plugins} plugins are loaded, which is the most allowed")
        self._plugins.setdefault(plugin.name, {})[plugin.version] = plugin
        _log.info("loaded %s %s from %s", plugin.name, plugin.version, source)
        return plugin

    async def _prepare(self, files: PluginFiles) -> Plugin:
        """Everything short of being found: checked, compiled, initialised, healthy."""
        checked = await asyncio.to_thread(check_plugin, files, self._policy)
        try:
            sandbox = await self._sandbox(checked)
        except (ModuleRefused, CompilationFailed) as error:
            raise LoadFailed(str(files.wasm), str(error)) from error
        outcome = await sandbox.check()
        if outcome.kind != "ok":
            raise LoadFailed(str(files.wasm), outcome.error or outcome.kind)
        return Plugin(checked.manifest, checked.grant, files, sandbox, checked.actions)

    async def _sandbox(self, checked: CheckedPlugin) -> Sandbox:
        config = plugin_config(checked.manifest, checked.grant)
        abi, wasm = checked.abi, checked.wasm
        if checked.manifest.runtime.snapshot:
            snapshot = await take_snapshot(wasm, abi, checked.grant, config, self._engine.compile)
            abi, wasm = snapshot.abi, snapshot.wasm
        program = replace(await self._engine.compile(wasm), lines=checked.lines)
        return Sandbox(program, abi, checked.grant, config, self._host_functions)

    async def unload_plugin(self, name: str, version: str) -> None:
        """Take one version out of use; its runs under way end in it. Raises `PluginNotFound`."""
        try:
            plugin = self._plugins[name].pop(version)
        except KeyError:
            raise PluginNotFound(name, version, self._versions(name)) from None
        if not self._plugins[name]:
            del self._plugins[name]
        outcome = await plugin.shut_down()
        if outcome.kind != "ok":
            _log.warning("%s %s did not shut down well: %s", name, version, outcome.error)

    def find(self, name: str, requirement: VersionReq | None = None) -> Plugin:
        """The highest loaded version that `requirement` admits. Raises `PluginNotFound`."""
        versions = self._plugins.get(name, {}).values()
        fitting = [one for one in versions if requirement is None or requirement.matches(one.manifest.version)]
        if not fitting:
            raise PluginNotFound(name, None if requirement is None else str(requirement), self._versions(name))
        return max(fitting, key=lambda one: one.manifest.version)

    def _versions(self, name: str) -> tuple[str, ...]:
        return tuple(self._plugins.get(name, ()))

    def plugins(self) -> tuple[Plugin, ...]:
        """All loaded plugins, each version for itself."""
        return tuple(plugin for versions in self._plugins.values() for plugin in versions.values())

    def list_plugins(self) -> tuple[PluginInfo, ...]:
        """What there is to tell of each, by name and version."""
        return tuple(
            plugin.info() for plugin in sorted(self.plugins(), key=lambda one: (one.name, one.manifest.version))
        )
