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
from collections.abc import AsyncIterator, Awaitable, Collection, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from warren.manifests import Manifest, ManifestError, dependants, load_order

from .admission import broken_callers, taken_away, unmet_needs
from .checks import CheckedPlugin
from .errors import LoadFailed, PluginError, PluginNotFound, StillNeeded, UpgradeParked
from .files import Identity, OnDisk, PluginFiles
from .lifecycle import LifecycleEvent, PluginLoaded, PluginRefused, PluginReplaced, PluginUnloaded
from .loaded import LoadedPlugins
from .loading import Loader
from .observers import Observers
from .plugin import Plugin
from .reconcile import Load, Standing
from .upgrades import Known, Upgrades

T = TypeVar("T")

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

    def __init__(
        self,
        loader: Loader,
        upgrades: Upgrades,
        *,
        max_plugins: int,
        grace_s: float,
        log: logging.Logger = _log,
    ) -> None:
        self.loaded = LoadedPlugins()
        self.observers = Observers[LifecycleEvent]()
        #: Why pairs that were found are not loaded as they are now.
        self.refusals: dict[PluginFiles, Refusal] = {}
        #: Pairs whose plugin was unloaded by order, with what they held: they are loaded again when they change.
        self._set_aside: dict[PluginFiles, bytes] = {}
        self._loader = loader
        self._upgrades = upgrades
        self._max_plugins = max_plugins
        self._grace_s = grace_s
        self._log = log
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._retiring: set[asyncio.Task[None]] = set()

    def standing(self) -> tuple[Standing, ...]:
        """All that is loaded, as `reconcile.plan` wants it."""
        return tuple(Standing(plugin.identity, plugin.files, plugin.digest) for plugin in self.loaded)

    def loaded_from(self, files: PluginFiles) -> Plugin | None:
        return next((plugin for plugin in self.loaded if plugin.files == files), None)

    async def load(
        self, files: PluginFiles, *, takes_over: bool = False, still: Plugin | None = None, by_order: bool = False
    ) -> Plugin:
        """Load a pair, in the place of what was loaded from it before, whatever version that was.

        With `takes_over` it may also take the place of the same version that was loaded from other files. A version in
        quarantine stays there unless it is loaded again `by_order`. Raises
        `ManifestError` or `LoadFailed`, and `PluginNotFound` when `still` is not loaded any more by the time that it is
        this one's turn; nothing has changed then.
        """
        name = (await asyncio.to_thread(files.read_manifest)).name
        before = self.loaded_from(files)
        async with self._alone(name, name if before is None else before.name):
            if still is not None and self.loaded.get(still.name, still.version) is None:
                raise PluginNotFound(still.name)
            checked = await self._checked(files, takes_over=takes_over)
            if checked.manifest.name != name:
                raise LoadFailed(str(files.manifest), "changed while it was read", may_pass=True)
            self._upgrades.check(files, checked, self._versions_of(name))
            plugin = await self._loader.prepare(files, checked)
            self._take_in(plugin, takes_over=takes_over, by_order=by_order)
            return plugin

    async def load_all(self, loads: Sequence[Load]) -> tuple[Plugin, ...]:
        """Load all that can be, each after what it needs; what cannot is in `refusals`. Of two alike, one is taken."""
        async with self._alone(*(load.pair.identity.name for load in loads if load.pair.identity is not None)):
            checked = await self._each(
                loads,
                [self._checked(load.files, takes_over=load.origin is not None, in_company=True) for load in loads],
            )
            admitted = list(self._admitted(checked))
            ready = await self._each(
                [load for load, _ in admitted], [self._loader.prepare(load.files, one) for load, one in admitted]
            )
            return self._take_in_order(ready)

    async def _each(self, loads: Sequence[Load], steps: Sequence[Awaitable[T]]) -> list[tuple[Load, T]]:
        """What became of each in a step that all take at once; those that it was too much for are refused."""
        done: list[tuple[Load, T]] = []
        for load, outcome in zip(loads, await asyncio.gather(*steps, return_exceptions=True), strict=True):
            if isinstance(outcome, PluginError | ManifestError):
                self.refuse(load.files, outcome, load.pair.digest)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                done.append((load, outcome))
        return done

    def _admitted(self, checked: Sequence[tuple[Load, CheckedPlugin]]) -> Iterator[tuple[Load, CheckedPlugin]]:
        """Those that need not wait to be approved, each version of a plugin seen after those below it."""
        coming: list[Known] = []
        for load, one in sorted(checked, key=lambda pair: (pair[1].manifest.name, pair[1].manifest.version)):
            name = one.manifest.name
            known = [*self._versions_of(name), *(other for other in coming if other[0].name == name)]
            try:
                self._upgrades.check(load.files, one, known)
            except UpgradeParked as parked:
                self.refuse(load.files, parked, load.pair.digest)
            else:
                coming.append((one.manifest, one.grant))
                yield load, one

    def _versions_of(self, name: str) -> list[Known]:
        return [(plugin.manifest, plugin.grant) for plugin in self.loaded.versions(name)]

    def _take_in_order(self, ready: Sequence[tuple[Load, Plugin]]) -> tuple[Plugin, ...]:
        coming = {plugin.identity for _, plugin in ready}
        staying = [plugin.manifest for plugin in self.loaded if plugin.identity not in coming]
        found = load_order([*staying, *(plugin.manifest for _, plugin in ready)])
        places = {id(manifest): place for place, manifest in enumerate(found.order)}
        unmet = {id(refused.manifest): str(refused.reason) for refused in found.refused}
        taken: list[Plugin] = []
        for load, plugin in sorted(ready, key=lambda one: places.get(id(one[1].manifest), len(places))):
            try:
                self._take_in(plugin, takes_over=load.origin is not None)
            except LoadFailed as error:
                # What is missing may only be missing since it was refused itself: the order knows what is to blame.
                reason = unmet.get(id(plugin.manifest))
                blamed = error if reason is None else LoadFailed(str(load.files.manifest), reason, may_pass=True)
                self.refuse(load.files, blamed, load.pair.digest)
            else:
                taken.append(plugin)
        return tuple(taken)

    async def _checked(self, files: PluginFiles, *, takes_over: bool, in_company: bool = False) -> CheckedPlugin:
        """A plugin that may be compiled, and then swapped in; what can be refused without that is.

        What it needs has to be loaded, unless it comes `in_company`.
        """
        manifest = await asyncio.to_thread(files.read_manifest)
        self._check_place(files, Identity(manifest.name, str(manifest.version)), takes_over=takes_over)
        if not in_company:
            self._check_needs(files, manifest, takes_over=takes_over)
        await self._check_callers(files, manifest)
        return await self._loader.check(files)

    def _take_in(self, plugin: Plugin, *, takes_over: bool = False, by_order: bool = False) -> None:
        """The swap."""
        self._check_place(plugin.files, plugin.identity, takes_over=takes_over)
        self._check_needs(plugin.files, plugin.manifest, takes_over=takes_over)
        standing = self.loaded.get(plugin.name, plugin.version)
        before = None if takes_over else self.loaded_from(plugin.files)
        if standing is not None:
            plugin.usage = standing.usage
            if standing.quarantined is not None and not by_order:
                plugin.quarantine(standing.quarantined)
        plugin.usage.loaded()
        self.loaded.put(plugin)
        self.refusals.pop(plugin.files, None)
        self._set_aside.pop(plugin.files, None)
        if standing is None:
            self._log.info("loaded %s %s from %s", plugin.name, plugin.version, plugin.files.wasm)
            self.observers.tell(PluginLoaded(plugin))
        else:
            self._log.info("reloaded %s %s from %s", plugin.name, plugin.version, plugin.files.wasm)
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

    def _check_needs(self, files: PluginFiles, manifest: Manifest, *, takes_over: bool) -> None:
        """Whether it has what it needs, and leaves to others what they need. Raises `LoadFailed`."""
        before = None if takes_over else self.loaded_from(files)
        loaded = [plugin.manifest for plugin in self.loaded]
        reason = None
        if before is not None and before.identity != (manifest.name, str(manifest.version)):
            reason = taken_away(before.manifest, manifest, loaded)
            loaded.remove(before.manifest)
        if reason := reason or unmet_needs(manifest, loaded):
            raise LoadFailed(str(files.manifest), reason, may_pass=True)

    async def _check_callers(self, files: PluginFiles, manifest: Manifest) -> None:
        """Whether who calls what is loaded can go on with this. Raises `LoadFailed`."""
        versions = [plugin.manifest for plugin in self.loaded.versions(manifest.name)]
        if reason := await asyncio.to_thread(broken_callers, manifest, versions):
            raise LoadFailed(str(files.manifest), reason, may_pass=True)

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
            self._log.warning("not loaded: %s", error)
        else:
            self._log.warning("not loaded, and %s %s stays as it is: %s", standing.name, standing.version, error)
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
        """What is not to be tried again while it holds the same. What may pass is: after any change, or to `retry`.

        What waits to be approved is tried again when it has been.
        """
        refused = {
            files: refusal.digest
            for files, refusal in self.refusals.items()
            if not (refusal.may_pass and self._may_have_passed(refusal, retry=retry))
        }
        return refused | self._set_aside

    def _may_have_passed(self, refusal: Refusal, *, retry: bool) -> bool:
        if refusal.changes != self.loaded.changes:
            return True
        return self._upgrades.has_approved(refusal.error) if isinstance(refusal.error, UpgradeParked) else retry

    def parked(self) -> dict[PluginFiles, UpgradeParked]:
        """The upgrades that wait to be approved."""
        waiting = {files: refusal.error for files, refusal in self.refusals.items()}
        return {files: error for files, error in waiting.items() if isinstance(error, UpgradeParked)}

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
        self._log.info("%s %s has moved to %s", plugin.name, plugin.version, files.wasm)
        plugin.files = files
        self.refusals.pop(files, None)

    async def unload(self, name: str, version: str | None = None, *, with_dependants: bool = False) -> list[Plugin]:
        """Take one version, or every one, out of use, and give back what went, in that order.

        Raises `PluginNotFound`, and `StillNeeded` while others need it, unless they go `with_dependants`.
        """
        names = {name}
        while True:
            async with self._alone(*names):
                leaving = self._leaving(name, version, with_dependants=with_dependants)
                if names.issuperset(plugin.name for plugin in leaving):
                    for plugin in leaving:
                        self.let_go(plugin)
                    return leaving
            names.update(plugin.name for plugin in leaving)

    def _leaving(self, name: str, version: str | None, *, with_dependants: bool) -> list[Plugin]:
        loaded = self.loaded.versions(name)
        asked = [plugin for plugin in loaded if version in (None, plugin.version)]
        if not asked:
            raise PluginNotFound(name, version, tuple(plugin.version for plugin in loaded))
        needing = dependants([one.manifest for one in asked], [plugin.manifest for plugin in self.loaded])
        if needing and not with_dependants:
            raise StillNeeded(name, version, tuple(f"{one.name} {one.version}" for one in needing))
        by_identity = {plugin.identity: plugin for plugin in self.loaded}
        return [*(by_identity[Identity(one.name, str(one.version))] for one in needing), *asked]

    def set_aside(self, plugins: Iterable[Plugin]) -> None:
        """They were unloaded by order, and their files are to be left alone until they change."""
        self._set_aside |= {plugin.files: plugin.digest for plugin in plugins}

    def let_go(self, plugin: Plugin) -> None:
        self.loaded.remove(plugin)
        self._log.info("unloaded %s %s", plugin.name, plugin.version)
        self.observers.tell(PluginUnloaded(plugin))
        self._retire(plugin)

    def _retire(self, plugin: Plugin) -> None:
        task = asyncio.create_task(self._shut_down(plugin))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _shut_down(self, plugin: Plugin) -> None:
        outcome = await plugin.retire(self._grace_s)
        if outcome.kind != "ok":
            self._log.warning("%s %s did not shut down well: %s", plugin.name, plugin.version, outcome.error)

    async def close(self) -> None:
        """Unload everything, what others need last, and wait until each has shut down. Idempotent."""
        places = {id(one): place for place, one in enumerate(load_order(one.manifest for one in self.loaded).order)}
        for plugin in sorted(self.loaded, key=lambda one: places.get(id(one.manifest), -1), reverse=True):
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
