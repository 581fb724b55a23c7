"""PluginManager: the plugins of one process, loaded from disk, found by name and version, and run.

    async with PluginManager("plugins") as manager:
        print(await manager.execute_plugin("text_processor", "get_status"))

It knows nothing of a bus; the worker is built on it. Loading is all or nothing for each plugin, and one bad plugin
never keeps the others from loading. What it holds is the `keeper`'s business, and what a folder has to do with it the
`watcher`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

from warren.manifests import Manifest, ManifestError, Policy, VersionReq, resolve

from .audit import Audit, AuditListener
from .calls import CALL_PLUGIN, Elsewhere, PluginCalls
from .debugging import Debugging
from .errors import LoadFailed, PluginError, PluginNotFound, UpgradeParked
from .execution import execute
from .files import Identity, PluginFiles, find_plugins, read_pair
from .host import STANDARD_FUNCTIONS, HostFunction
from .host_functions import EmbedderFunction, with_embedders
from .instance_pool import MAX_CALL_DEPTH
from .keeper import DEFAULT_GRACE_S, DEFAULT_MAX_PLUGINS, Keeper
from .lifecycle import Observer
from .loading import Loader
from .network import HttpRequests
from .network_request import HTTP_REQUEST
from .plugin import Plugin, PluginHealth, PluginInfo, parked_info
from .plugin_folder import PluginFolders
from .reconcile import Load, Move, from_elsewhere, plan
from .storage import StorageFunctions
from .upgrades import Upgrades
from .watcher import Watcher, WatchOptions

T = TypeVar("T")

DEFAULT_WATCH_OPTIONS: Final = WatchOptions()


class PluginManager:
    """The plugins under one folder, and those loaded one by one. Entering it loads what it finds in the folder.

    With `hot_reload` the folder is watched from then on, and what is loaded from it follows it. `max_plugins` counts
    each version. A plugin that is replaced or unloaded has `grace_s` for its runs under way before it is shut down.
    Plugins can call each other, where their manifests say so, `call_depth` deep (8 at most). They can call
    `host_functions`, too, besides Warren's own: see `host_function`. `on_audit` is called with each use of a power that
    was granted, and each that was refused. Plugins that may use files have a directory each in `data`, which must be
    apart from the plugins; without one it is `data_folder()`. What plugins store is kept at the URL `storage`:
    `sqlite:///PATH`, `redis://HOST` or `rediss://HOST`; without one, at that of `WARREN_STORAGE`, or in the user's own
    file. It is opened when the first plugin is loaded that may store something. `secrets` are the folders that settings
    such as `file:/run/secrets/token` may name files of. `debugging` says of which plugin's runs more is kept.

    Not for use by several threads: it belongs to one event loop.
    """

    def __init__(
        self,
        directory: Path | str | None = None,
        *,
        policy: Policy | None = None,
        max_plugins: int = DEFAULT_MAX_PLUGINS,
        host_functions: Iterable[EmbedderFunction[..., Any]] = (),
        hot_reload: bool = False,
        watch_options: WatchOptions = DEFAULT_WATCH_OPTIONS,
        grace_s: float = DEFAULT_GRACE_S,
        call_depth: int = MAX_CALL_DEPTH,
        on_audit: AuditListener | None = None,
        data: Path | str | None = None,
        storage: str | None = None,
        secrets: Iterable[Path | str] = (),
        debugging: Debugging | None = None,
    ) -> None:
        """Raises ValueError for a `call_depth` that cannot be, `HostFunctionRefused` for two functions of one name, and
        `PluginError` for a URL that is no storage.
        """
        policy = policy or Policy()
        self.directory = None if directory is None else Path(directory)
        self._calls = PluginCalls(self.find, depth=call_depth)
        self._storage = StorageFunctions(storage)
        standard: dict[str, HostFunction] = {
            CALL_PLUGIN: self._calls,
            HTTP_REQUEST: HttpRequests(),
            **self._storage.by_name(),
            **STANDARD_FUNCTIONS,
        }
        self._audit = Audit()
        if on_audit is not None:
            self._audit.observers.add(on_audit)
        functions = with_embedders(standard, host_functions)
        loader = Loader(
            policy,
            functions,
            audit=self._audit,
            folders=PluginFolders(None if data is None else Path(data), self.directory),
            storage=self._storage,
            secret_folders=tuple(map(Path, secrets)),
            debugging=debugging,
        )
        self._keeper = Keeper(loader, Upgrades(policy), max_plugins=max_plugins, grace_s=grace_s)
        self._watcher: Watcher | None = None
        if hot_reload:
            self._watcher = Watcher(self._folder(), self._keeper, watch_options)

    def _folder(self) -> Path:
        if self.directory is None:
            raise PluginError("this manager was given no folder of plugins")
        return self.directory

    @property
    def failures(self) -> tuple[PluginError | ManifestError, ...]:
        """Why plugins that are in the folder are not loaded as they are there, in the order of their paths."""
        refusals = sorted(self._keeper.refusals.items(), key=lambda item: item[0].wasm)
        return tuple(refusal.error for _, refusal in refusals)

    async def __aenter__(self) -> Self:
        if self.directory is not None:
            await self.discover_and_load()
        if self._watcher is not None:
            self._watcher.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop watching, and unload every plugin, letting each run its `shutdown`. Idempotent."""
        if self._watcher is not None:
            await self._watcher.stop()
        await self._keeper.close()
        await self._storage.close()

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call `observer` with each `LifecycleEvent` from now on; what this gives back ends that."""
        return self._keeper.observers.add(observer)

    def observe_audit(self, listener: AuditListener) -> Callable[[], None]:
        """Call `listener` with each `AuditRecord` from now on; what this gives back ends that."""
        return self._audit.observers.add(listener)

    def call_elsewhere(self, elsewhere: Elsewhere | None) -> None:
        """Have calls of plugins that are not loaded here done by `elsewhere` from now on; None: by nobody."""
        self._calls.elsewhere = elsewhere

    # Loading and unloading.

    async def discover_and_load(self) -> tuple[Plugin, ...]:
        """Load every plugin under the folder that is not loaded as it is there, each after what it needs.

        Gives those that were loaded now, in that order. What could not be loaded, or lacks what it needs, is in
        `failures` with the reason. Raises `LoadFailed` when there is no such folder.
        """
        folder = self._folder()
        found = await asyncio.to_thread(lambda: [read_pair(files) for files in find_plugins(folder)])
        self._keeper.forget_refusals({one.files for one in found})
        self._keeper.take_back(found)
        standing = self._keeper.standing()
        steps = plan([*found, *from_elsewhere(standing, folder)], standing)
        for step in steps:
            if isinstance(step, Move):
                self._keeper.move(step.identity, step.files)
        return await self._keeper.load_all([step for step in steps if isinstance(step, Load)])

    async def load_plugin(self, path: Path | str) -> Plugin:
        """Load the pair that `path`, its `.wasm` or its `.toml`, belongs to, in the place of what came from it before.

        What it needs has to be loaded (or see `load_with_dependencies`). Raises `ManifestError` or `LoadFailed`, each
        naming the file; nothing has changed then.
        """
        return await self._load(self._pair(Path(path)))

    async def reload_plugin(self, name: str, version: str | None = None) -> Plugin:
        """Load a plugin's files again, and swap the new one in when it is ready; what is loaded from them now.

        Without a version it is the one that `find` gives. When the manifest has another name or version by now, that
        takes the place of the one before. A version that is parked is loaded if it has been approved, and one in
        quarantine is run again. Raises `PluginNotFound`, and `ManifestError` or `LoadFailed` when nothing has changed
        since the new one is bad, or is parked still.
        """
        for files, waiting in self._keeper.parked().items():
            if (waiting.manifest.name, str(waiting.manifest.version)) == (name, version):
                return await self._load(files)
        plugin = self._exactly(name, version)
        return await self._load(plugin.files, still=plugin)

    async def load_with_dependencies(
        self, name: str, requirement: VersionReq | str | None = None
    ) -> tuple[Plugin, ...]:
        """Load a plugin from the folder, and before it what it needs: the highest versions that go together.

        What is loaded may serve as well, and stays. Gives all of them, each after what it needs. Raises
        `ResolutionError` when there is no such plugin, or nothing that goes together; and what `load_plugin` does, when
        those before the one named are loaded.
        """
        if not isinstance(requirement, VersionReq):
            requirement = VersionReq.parse(requirement or "*")
        found = await asyncio.to_thread(_manifests, self._folder())
        available = [plugin.manifest for plugin in self.plugins()]
        known = {plugin.identity for plugin in self.plugins()}
        available += [manifest for identity, (manifest, _) in found.items() if identity not in known]
        resolution = await asyncio.to_thread(resolve, [(name, requirement)], available)  # hostile ones take seconds
        order = [Identity(one.name, str(one.version)) for one in resolution.order]
        loaded: list[Plugin] = []
        for identity in order:
            plugin = self._keeper.loaded.get(*identity)
            if plugin is None:
                if identity not in found:  # it was loaded from elsewhere, and has gone meanwhile
                    raise PluginNotFound(*identity)
                plugin = await self._load(found[identity][1])
            loaded.append(plugin)
        return tuple(loaded)

    async def unload_plugin(self, name: str, version: str | None = None, *, with_dependants: bool = False) -> None:
        """Take one version out of use, or the whole plugin; runs under way end well.

        Plugins that need it go before it when they are to go `with_dependants`. Raises `PluginNotFound`, and
        `StillNeeded` otherwise. Under hot reload what was unloaded is loaded again when its files change.
        """
        self._keeper.set_aside(await self._keeper.unload(name, version, with_dependants=with_dependants))

    async def _load(self, files: PluginFiles, *, still: Plugin | None = None) -> Plugin:
        try:
            return await self._keeper.load(files, still=still, by_order=True)
        except UpgradeParked as parked:
            self._keeper.refuse(files, parked, parked.digest)
            raise
        except (LoadFailed, ManifestError) as error:
            self._keeper.say_refused(files, error)
            raise

    def _pair(self, path: Path) -> PluginFiles:
        """The pair, by the path that it has in the folder if it is there."""
        if self.directory is not None and path.absolute().is_relative_to(self.directory.absolute()):
            path = self.directory / path.absolute().relative_to(self.directory.absolute())
        return PluginFiles.beside(path)

    # Finding and running. The first is on the path of every request.

    def find(self, name: str, requirement: VersionReq | str | None = None, *, prefer: str | None = None) -> Plugin:
        """The version that a request gets: the highest loaded that `requirement` admits.

        Without a requirement it is the highest release, or the highest pre-release where there is no release. `prefer`
        is taken before all others while it is loaded and admitted: a retry stays on the version that its first attempt
        got. Raises `PluginNotFound`, and `InvalidValue` for a requirement that is none. The answer is remembered until
        something is loaded or unloaded.
        """
        return self._keeper.loaded.find(name, requirement, prefer=prefer)

    @overload
    async def execute_plugin(
        self,
        name: str,
        action: str,
        input: Any = None,
        *,
        output: type[T],
        requirement: VersionReq | str | None = None,
        timeout_s: float | None = None,
    ) -> T: ...

    @overload
    async def execute_plugin(
        self,
        name: str,
        action: str,
        input: Any = None,
        *,
        output: Any = None,
        requirement: VersionReq | str | None = None,
        timeout_s: float | None = None,
    ) -> Any: ...

    async def execute_plugin(
        self,
        name: str,
        action: str,
        input: Any = None,  # noqa: A002 - the guide's word
        *,
        output: Any = None,
        requirement: VersionReq | str | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Run one action in a sandbox of its own, and give the answer's `result`.

        `input` is a pydantic model, or anything else that has a form in JSON. `output` is what the result has to be: a
        pydantic model, a dataclass, `list[int]`, whatever pydantic validates; without it the result comes as parsed.

        Raises `PluginNotFound`; `InvalidInput`; and a `RunFailed` with the outcome in it: `PluginFailed` (the guest
        says that it could not), `SecurityViolation`, `ResourceLimit`, `PluginTrapped`, `RequestRejected`,
        `HostUnavailable`, `UnexpectedAnswer` (the result is not an `output`). What the guest wanted to publish is
        dropped: there is no bus here. Who wants it, or the bytes, calls `find(...).run(...)`.
        """
        return await execute(self.find(name, requirement), action, input, output, timeout_s=timeout_s)

    async def health_check(self, name: str, version: str | None = None) -> PluginHealth:
        """Start a fresh guest and ask how it is; without a version, of the one that `find` gives."""
        return await self._exactly(name, version).health()

    def _exactly(self, name: str, version: str | None) -> Plugin:
        if version is None:
            return self.find(name)
        if (plugin := self._keeper.loaded.get(name, version)) is None:
            raise PluginNotFound(name, version, tuple(one.version for one in self._keeper.loaded.versions(name)))
        return plugin

    # Looking.

    def plugins(self) -> tuple[Plugin, ...]:
        """All loaded plugins, each version for itself."""
        return tuple(self._keeper.loaded)

    def list_plugins(self) -> tuple[PluginInfo, ...]:
        """What there is to tell of each, by name and version; and of upgrades that are parked, with that `status`."""
        waiting = [(one.manifest, parked_info(one)) for one in self.parked()]
        loaded = [(plugin.manifest, plugin.info()) for plugin in self.plugins()]
        both = sorted([*loaded, *waiting], key=lambda one: (one[0].name, one[0].version, one[1].version))
        return tuple(info for _, info in both)

    def parked(self) -> tuple[UpgradeParked, ...]:
        """The upgrades that wait to be approved, by the paths of their files.

        One that would take the place of the same version is not among them: that version's status is `stale`.
        """
        loaded = {plugin.identity for plugin in self.plugins()}
        waiting = sorted(self._keeper.parked().items(), key=lambda item: item[0].wasm)
        return tuple(one for _, one in waiting if (one.manifest.name, str(one.manifest.version)) not in loaded)


def _manifests(folder: Path) -> dict[Identity, tuple[Manifest, PluginFiles]]:
    """What there is to be loaded; a manifest that cannot be read is none, and of two alike the first counts."""
    found: dict[Identity, tuple[Manifest, PluginFiles]] = {}
    for files in find_plugins(folder):
        with contextlib.suppress(LoadFailed, ManifestError):
            manifest = files.read_manifest()
            found.setdefault(Identity(manifest.name, str(manifest.version)), (manifest, files))
    return found
