"""Hot reload: keeps what is loaded from a folder as the folder is.

`watchfiles` says that something has changed, and nothing more is believed of it: the folder is looked through each
time, and now and then besides, since events get lost (and on network mounts never come: `force_polling`). What is to
be done then is worked out by `reconcile.plan`, from what is on disk and what is loaded.

A pair is read once it has looked the same for a while: both files there, and neither's size, times or inode changed.
So copies that take long are waited for, and a build script may write the module first and the manifest after. What
cannot be loaded is tried once more when it has stayed as it is for longer, and only then refused: a copy may have
paused. Loading goes on beside the watching, each pair for itself.

Nothing is unloaded because a folder cannot be read, or the whole folder of plugins is gone: a mount that has come off
is no order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from watchfiles import awatch

from warren.manifests import ManifestError

from .errors import LoadFailed, PluginError
from .files import OnDisk, PluginFiles, Stamp, list_plugins, read_pair
from .keeper import Keeper
from .reconcile import GONE, Load, Move, Step, Unload, from_elsewhere, plan
from .settling import Settling

_log = logging.getLogger(__name__)

#: Between two looks of the watching thread at what the kernel has told, in ms; each takes the GIL for a moment.
STEP_MS: Final = 100


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """When changes are believed. `force_polling` None: WATCHFILES_FORCE_POLLING, or as `watchfiles` finds best."""

    #: A pair that has looked the same for so long is whole, and one that has been away for so long is gone.
    quiet_s: float = 0.25
    #: Half a pair, or one that cannot be loaded, may yet become whole; after so long it is taken for what it is.
    patience_s: float = 2.0
    #: The folder is looked through so often at least, whether or not anything is said to have changed.
    rescan_s: float = 10.0
    #: Polling, `watchfiles` sees only files that are newer by a second; the rest is seen at the next look.
    force_polling: bool | None = None
    poll_delay_ms: int = 300


@dataclass(frozen=True, slots=True)
class _Scan:
    """One look at the folder: which one it was, every pair's stamp, and the pairs that cannot be told of."""

    inode: tuple[int, int]
    stamps: Mapping[PluginFiles, Stamp]
    unknown: frozenset[PluginFiles]


class Watcher:
    """Watches one folder for one keeper, which has loaded from it what there was."""

    def __init__(self, directory: Path, keeper: Keeper, options: WatchOptions) -> None:
        self._directory = directory
        self._keeper = keeper
        self._options = options
        self._settling = Settling(quiet_s=options.quiet_s, patience_s=options.patience_s)
        self._readings: dict[PluginFiles, tuple[Stamp, OnDisk]] = {}
        self._under_way: dict[PluginFiles, asyncio.Task[None]] = {}
        #: What could not be done while others were under way, of which one may have been what it needs.
        self._waiting: set[PluginFiles] = set()
        self._changed = asyncio.Event()
        self._deaf = asyncio.Event()
        self._listening_to: tuple[int, int] | None = None
        self._trouble: str | None = None
        self._stopped = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to watch. Idempotent."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._follow())]

    async def stop(self) -> None:
        """End the watching, and give up what it was loading. Idempotent."""
        self._stopped = True
        self._deaf.set()
        self._changed.set()
        if self._tasks:
            await asyncio.wait(self._tasks)
        loading = set(self._under_way.values())
        for task in loading:
            task.cancel()
        if loading:
            await asyncio.wait(loading)

    async def _listen(self) -> None:
        """Tell `_follow` that something has changed, whatever it was. A folder in this one's place is heard anew."""
        options = self._options
        while not self._stopped:
            self._deaf.clear()
            self._listening_to = await asyncio.to_thread(_inode, self._directory)
            self._changed.set()
            try:
                async for _ in awatch(
                    self._directory,
                    watch_filter=None,
                    step=STEP_MS,
                    stop_event=self._deaf,
                    force_polling=options.force_polling,
                    poll_delay_ms=options.poll_delay_ms,
                ):
                    self._changed.set()
            except OSError as error:
                if self._listening_to is not None:
                    _log.warning("changes in %s are seen late: it cannot be watched: %s", self._directory, error)
                await _set_within(self._deaf, options.rescan_s)

    async def _follow(self) -> None:
        """Look when something has changed, and when something is due."""
        wait_s = 0.0
        while True:
            overdue = not await _set_within(self._changed, wait_s) and wait_s >= self._options.rescan_s
            self._changed.clear()
            if self._stopped:
                return
            try:
                wait_s = await self._look(overdue=overdue)
            except Exception:  # noqa: BLE001 - a defect must not end the watching
                _log.exception("looking through %s failed; it is tried again", self._directory)
                wait_s = self._options.rescan_s

    async def _look(self, *, overdue: bool) -> float:
        """Look once, and begin what is to be done; in how many seconds to look again at the latest."""
        known = [one.files for one in self._keeper.loaded if self._is_ours(one.files)]
        try:
            scan = await asyncio.to_thread(_scan, self._directory, known)
        except (LoadFailed, OSError) as error:
            self._complain(f"{error}; what was loaded from there stays")
            return self._options.rescan_s
        self._complain(None)
        if scan.inode != self._listening_to:
            self._deaf.set()
        now = asyncio.get_running_loop().time()
        self._settling.note(scan.stamps, now)
        unsettled = self._settling.unsettled(now, known)
        await self._read(scan.stamps, unsettled)
        self._keeper.forget_refusals(scan.stamps.keys() | scan.unknown)
        for step in self._plan(scan, unsettled, overdue=overdue):
            self._begin(step)
        return min([*unsettled.values(), now + self._options.rescan_s]) - now

    def _is_ours(self, files: PluginFiles) -> bool:
        return files.wasm.is_relative_to(self._directory)

    def _complain(self, trouble: str | None) -> None:
        if trouble is not None and trouble != self._trouble:
            _log.warning("%s", trouble)
        self._trouble = trouble

    async def _read(self, stamps: Mapping[PluginFiles, Stamp], unsettled: Collection[PluginFiles]) -> None:
        """Read the pairs that have settled since they were last read."""
        self._readings = {files: read for files, read in self._readings.items() if read[0] == stamps.get(files)}
        for files, stamp in stamps.items():
            if files not in unsettled and files not in self._readings and stamp != (None, None):
                self._readings[files] = (stamp, await asyncio.to_thread(read_pair, files))

    def _plan(self, scan: _Scan, unsettled: Collection[PluginFiles], *, overdue: bool) -> tuple[Step, ...]:
        """The steps. What was loaded from elsewhere, or since the look, is not judged by it."""
        standing = self._keeper.standing()
        sources = {one.files for one in standing}
        disk = from_elsewhere(standing, self._directory)
        # Half a pair is what is left of a plugin; or it is wrong, and said to be so by being tried.
        disk += [read for stamp, read in self._readings.values() if None not in stamp or read.files not in sources]
        self._keeper.take_back(disk)
        unseen = {files for files in sources if self._is_ours(files)} - scan.stamps.keys()
        return plan(
            disk,
            standing,
            unsettled={*unsettled, *scan.unknown, *unseen, *self._under_way, *self._waiting},
            refused=self._keeper.not_again(retry=overdue),
        )

    def _begin(self, step: Step) -> None:
        if isinstance(step, Move):
            self._keeper.move(step.identity, step.files)
            return
        task = asyncio.create_task(self._carry_out(step))
        for files in {step.files, (isinstance(step, Load) and step.origin) or step.files}:
            self._under_way[files] = task
        task.add_done_callback(self._done)

    def _done(self, done: asyncio.Task[None]) -> None:
        self._under_way = {files: task for files, task in self._under_way.items() if task is not done}
        if not self._under_way:
            self._waiting.clear()
        self._changed.set()

    async def _carry_out(self, step: Load | Unload) -> None:
        digest = step.pair.digest if isinstance(step, Load) else GONE
        try:
            if isinstance(step, Load):
                await self._keeper.load(step.files, takes_over=step.origin is not None)
            else:
                await self._keeper.unload(*step.identity)
            self._waiting.clear()
        except (PluginError, ManifestError) as error:
            if isinstance(error, PluginError) and error.may_pass and self._others_are_under_way():
                self._waiting.add(step.files)
            elif isinstance(step, Unload) or not self._may_be_half_written(step.files, error):
                self._keeper.refuse(step.files, error, digest)
        except Exception as error:  # noqa: BLE001 - a defect must be told of like everything else
            _log.exception("hot reload failed, and not by the fault of %s", step.files.wasm)
            failure = LoadFailed(str(step.files.wasm), f"hot reload failed: {type(error).__name__}", may_pass=True)
            self._keeper.refuse(step.files, failure, digest)

    def _others_are_under_way(self) -> bool:
        return any(task is not asyncio.current_task() for task in self._under_way.values())

    def _may_be_half_written(self, files: PluginFiles, error: PluginError | ManifestError) -> bool:
        """Whether that would explain it, and there has been no time yet to see; then it is tried again."""
        if isinstance(error, PluginError) and error.may_pass:  # it is not for what it holds
            return False
        return self._settling.postpone(files, asyncio.get_running_loop().time())


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether `event` is set by then."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


def _inode(directory: Path) -> tuple[int, int] | None:
    try:
        status = directory.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def _scan(directory: Path, known: Collection[PluginFiles]) -> _Scan:
    """Raises `LoadFailed` when the folder is not there."""
    inode = _inode(directory)
    listing = list_plugins(directory)
    if inode is None:
        raise LoadFailed(str(directory), "there is no such folder of plugins")
    stamps: dict[PluginFiles, Stamp] = {}
    unknown: set[PluginFiles] = set()
    for files in {*listing.pairs, *known}:
        if any(files.wasm.is_relative_to(folder) for folder in listing.unreadable):
            unknown.add(files)
            continue
        try:
            stamps[files] = files.stamp()
        except OSError:
            unknown.add(files)
    return _Scan(inode, stamps, frozenset(unknown))
