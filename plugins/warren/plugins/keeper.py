"""The plugins that are loaded, and every change to them: loading, replacing, unloading.

A successor is made ready first (see `loading`) and swapped in within one step of the event loop, so that a request
finds the one or the other, and a bad one changes nothing. Runs under way end in the plugin they began in; its
`shutdown` follows the last of them, in the background.

Changes to one plugin come one after another; those to different plugins do not wait for each other, and no run waits
for any. Everything is checked again at the swap, which therefore needs no lock: the locks keep an older one from being
swapped in after a newer one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

from warren.manifests import BreakingChange, Manifest, ManifestError, unannounced_changes

from .errors import LoadFailed, PluginError, PluginNotFound
from .files import Identity, OnDisk, PluginFiles
from .lifecycle import Observers, PluginLoaded, PluginRefused, PluginReplaced, PluginUnloaded
from .loaded import LoadedPlugins
from .loading import Loader
from .plugin import Plugin
from .reconcile import Load, Standing

_log = logging.getLogger(__name__)

DEFAULT_MAX_PLUGINS: Final = 100

#: How long a plugin that was replaced or unloaded waits for its runs before its `shutdown`: a run's default time limit.
DEFAULT_GRACE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pair is not loaded; `digest` is that of what it held, `changes` how often the loaded set had changed."""

    error: PluginError | ManifestError
    digest: bytes
    changes: int

    @property
    def may_pass(self) -> bool:
        """Whether the same files may be taken another time."""
        return isinstance(self.error, PluginError) and self.error.may_pass


class Keeper:
    """Holds what is loaded. It belongs to one event loop."""

    def __init__(self, loader: Loader, *, max_plugins: int, grace_s: float) -> None:
        self.loaded = LoadedPlugins()
        self.observers = Observers()
        #: Why pairs that were found are not loaded as they are now.
        self.refusals: dict[PluginFiles, Refusal] = {}
        #: Pairs whose plugin was unloaded by order, with what they held: they are loaded again when they change.
        self._set_aside: dict[PluginFiles, bytes] = {}
        self._loader = loader
        self._max_plugins = max_plugins
        self._grace_s = grace_s
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._retiring: set[asyncio.Task[None]] = set()

    def standing(self) -> tuple[Standing, ...]:
        """All that is loaded, as `reconcile.plan` wants it."""
        return tuple(Standing(plugin.identity, plugin.files, plugin.digest) for plugin in self.loaded)

    def loaded_from(self, files: PluginFiles) -> Plugin | None:
        return next((plugin for plugin in self.loaded if plugin.files == files), None)

    async def load(self, files: PluginFiles, *, takes_over: bool = False, still: Plugin | None = None) -> Plugin:
        """Load a pair, in the place of what was loaded from it before, whatever version that was.

        With `takes_over` it may also take the place of the same version that was loaded from other files. Raises
        `ManifestError` or `LoadFailed`, and `PluginNotFound` when `still` is not loaded any more by the time that it is
        this one's turn; nothing has changed then.
        """
        name = (await asyncio.to_thread(files.read_manifest)).name
        before = self.loaded_from(files)
        async with self._alone(name, name if before is None else before.name):
            if still is not None and self.loaded.get(still.name, still.version) is None:
                raise PluginNotFound(still.name)
            plugin = await self._ready(files, takes_over=takes_over)
            if plugin.name != name:
                raise LoadFailed(str(files.manifest), "changed while it was read", may_pass=True)
            self._take_in(plugin, takes_over=takes_over)
            return plugin

    async def load_all(self, loads: Sequence[Load]) -> tuple[Plugin, ...]:
        """Load all that can be; what cannot is in `refusals`. Of two alike, the first one is taken."""
        async with self._alone(*(load.pair.identity.name for load in loads if load.pair.identity is not None)):
            preparing = [
                asyncio.ensure_future(self._ready(load.files, takes_over=load.origin is not None)) for load in loads
            ]
            await asyncio.gather(*preparing, return_exceptions=True)
            taken: list[Plugin] = []
            for load, prepared in zip(loads, preparing, strict=True):
                try:
                    plugin = prepared.result()
                    self._take_in(plugin, takes_over=load.origin is not None)
                    taken.append(plugin)
                except (PluginError, ManifestError) as error:
                    self.refuse(load.files, error, load.pair.digest)
        return tuple(taken)

    async def _ready(self, files: PluginFiles, *, takes_over: bool) -> Plugin:
        """A plugin that may be swapped in; what can be refused without compiling it is."""
        manifest = await asyncio.to_thread(files.read_manifest)
        self._check_place(files, Identity(manifest.name, str(manifest.version)), takes_over=takes_over)
        await self._check_successor(files, manifest)
        return await self._loader.prepare(files)

    def _take_in(self, plugin: Plugin, *, takes_over: bool = False) -> None:
        """The swap."""
        self._check_place(plugin.files, plugin.identity, takes_over=takes_over)
        standing = self.loaded.get(plugin.name, plugin.version)
        before = None if takes_over else self.loaded_from(plugin.files)
        if standing is not None:
            plugin.usage = standing.usage
        plugin.usage.loaded()
        self.loaded.put(plugin)
        self.refusals.pop(plugin.files, None)
        self._set_aside.pop(plugin.files, None)
        if standing is None:
            _log.info("loaded %s %s from %s", plugin.name, plugin.version, plugin.files.wasm)
            self.observers.tell(PluginLoaded(plugin))
        else:
            _log.info("reloaded %s %s from %s", plugin.name, plugin.version, plugin.files.wasm)
            self.observers.tell(PluginReplaced(plugin, standing))
            self._retire(standing)
        if before is not None and before is not standing:
            self.let_go(before)

    def _check_place(self, files: PluginFiles, identity: Identity, *, takes_over: bool) -> None:
        """Whether there is a place for it. Raises `LoadFailed`."""
        source = str(files.wasm)
        standing = self.loaded.get(*identity)
        if standing is None:
            if len(self.loaded) >= self._max_plugins and self.loaded_from(files) is None:
                reason = f"{self._max_plugins} plugins are loaded, which is the most allowed"
                raise LoadFailed(source, reason, may_pass=True)
        elif standing.files != files and not takes_over:
            reason = f"{identity.name} {identity.version} is loaded from {standing.files.wasm} already"
            raise LoadFailed(source, reason, may_pass=True)

    async def _check_successor(self, files: PluginFiles, manifest: Manifest) -> None:
        """Whether who calls what is loaded can go on with this. Raises `LoadFailed`.

        It is compared with the version whose requests it would get: the same, or the next lower one. Going back to a
        lower version is never refused.
        """
        lower = [one for one in self.loaded.versions(manifest.name) if one.manifest.version <= manifest.version]
        if lower:
            changes = await asyncio.to_thread(unannounced_changes, lower[-1].manifest, manifest)
            if changes:
                raise LoadFailed(str(files.manifest), _broken(lower[-1], changes), may_pass=True)

    def refuse(self, files: PluginFiles, error: PluginError | ManifestError, digest: bytes) -> None:
        """A pair that was found is not taken; `say_refused`, but the same once only."""
        last = self.refusals.get(files)
        self.refusals[files] = Refusal(error, digest, self.loaded.changes)
        if last is None or (last.digest, str(last.error)) != (digest, str(error)):
            self.say_refused(files, error)

    def say_refused(self, files: PluginFiles, error: PluginError | ManifestError) -> None:
        """Say it in the log, to observers, and in the status of what was loaded from there before."""
        standing = self.loaded_from(files)
        if standing is None:
            _log.warning("not loaded: %s", error)
        else:
            _log.warning("not loaded, and %s %s stays as it is: %s", standing.name, standing.version, error)
            standing.usage.refused(str(error))
        self.observers.tell(PluginRefused(files, error, standing))

    def take_back(self, disk: Iterable[OnDisk]) -> None:
        """Forget what was refused of pairs that hold again what is loaded from them."""
        for pair in disk:
            plugin = None if pair.identity is None else self.loaded.get(*pair.identity)
            if plugin is not None and (plugin.files, plugin.digest) == (pair.files, pair.digest):
                self.refusals.pop(pair.files, None)
                plugin.usage.accepted()

    def not_again(self, *, retry: bool) -> dict[PluginFiles, bytes]:
        """What is not to be tried again while it holds the same. What may pass is: after any change, or to `retry`."""
        changes = self.loaded.changes
        refused = {
            files: refusal.digest
            for files, refusal in self.refusals.items()
            if not refusal.may_pass or not (retry or refusal.changes != changes)
        }
        return refused | self._set_aside

    def forget_refusals(self, there: Collection[PluginFiles]) -> None:
        """Keep those of the pairs that are `there`."""
        for memory in (self.refusals, self._set_aside):
            for files in memory.keys() - there:
                del memory[files]

    def move(self, identity: Identity, files: PluginFiles) -> None:
        """Its files have another path now, and are the same."""
        plugin = self.loaded.get(*identity)
        if plugin is None:
            return
        _log.info("%s %s has moved to %s", plugin.name, plugin.version, files.wasm)
        plugin.files = files
        self.refusals.pop(files, None)

    async def unload(self, name: str, version: str | None = None) -> list[Plugin]:
        """Take one version, or every one, out of use, and give back which. Raises `PluginNotFound`."""
        async with self._alone(name):
            loaded = self.loaded.versions(name)
            leaving = [plugin for plugin in loaded if version in (None, plugin.version)]
            if not leaving:
                raise PluginNotFound(name, version, tuple(plugin.version for plugin in loaded))
            for plugin in leaving:
                self.let_go(plugin)
            return leaving

    def set_aside(self, plugins: Iterable[Plugin]) -> None:
        """They were unloaded by order, and their files are to be left alone until they change."""
        self._set_aside |= {plugin.files: plugin.digest for plugin in plugins}

    def let_go(self, plugin: Plugin) -> None:
        self.loaded.remove(plugin)
        _log.info("unloaded %s %s", plugin.name, plugin.version)
        self.observers.tell(PluginUnloaded(plugin))
        self._retire(plugin)

    def _retire(self, plugin: Plugin) -> None:
        task = asyncio.create_task(self._shut_down(plugin))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _shut_down(self, plugin: Plugin) -> None:
        outcome = await plugin.retire(self._grace_s)
        if outcome.kind != "ok":
            _log.warning("%s %s did not shut down well: %s", plugin.name, plugin.version, outcome.error)

    async def close(self) -> None:
        """Unload everything, and wait until each has shut down. Idempotent."""
        for plugin in self.loaded:
            self.let_go(plugin)
        while self._retiring:
            await asyncio.wait(self._retiring)

    @asynccontextmanager
    async def _alone(self, *names: str) -> AsyncIterator[None]:
        """While no other change to these plugins is under way."""
        locks = [self._locks.setdefault(name, asyncio.Lock()) for name in sorted(set(names))]
        async with AsyncExitStack() as stack:
            for lock in locks:
                await stack.enter_async_context(lock)
            yield


def _broken(standing: Plugin, changes: Sequence[BreakingChange]) -> str:
    """What `changes` break, and what to do."""
    more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
    name = f"{standing.name} {standing.version}"
    return f"breaks who calls {name}: {changes[0]}{more}; raise the version as for a breaking change, or unload {name}"
