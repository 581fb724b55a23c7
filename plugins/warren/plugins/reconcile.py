"""What has to be done for the plugins loaded to be those on disk: a pure function of the two.

Identity is the manifest's name and version, and decides; a pair's path only tells what came from it. So a pair that was
renamed keeps its plugin loaded, and one whose manifest was given another version brings the new one and takes the old
one away. Rejected: acting on single file events. They get lost, come in any order, and say nothing of what to do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from .files import Identity, OnDisk, PluginFiles

#: The digest of a pair that is not there.
GONE: Final = b""

NOTHING_REFUSED: Final[Mapping[PluginFiles, bytes]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Standing:
    """A plugin as it was loaded."""

    identity: Identity
    files: PluginFiles
    digest: bytes


@dataclass(frozen=True, slots=True)
class Load:
    """Load the pair, in the place of what came from it before. `origin`: the same version came from there until now."""

    pair: OnDisk
    origin: PluginFiles | None = None

    @property
    def files(self) -> PluginFiles:
        return self.pair.files


@dataclass(frozen=True, slots=True)
class Move:
    """The plugin's files have the same content, and this path now."""

    files: PluginFiles
    identity: Identity


@dataclass(frozen=True, slots=True)
class Unload:
    """The plugin's files are gone, or are another plugin's now."""

    files: PluginFiles
    identity: Identity


Step = Load | Move | Unload


def plan(
    disk: Iterable[OnDisk],
    standing: Iterable[Standing],
    *,
    unsettled: Collection[PluginFiles] = (),
    refused: Mapping[PluginFiles, bytes] = NOTHING_REFUSED,
) -> tuple[Step, ...]:
    """The steps, in the order to take them: moves, then loads, then unloads.

    Pairs that are `unsettled` are left as they are: too little is known of them just now. `refused` are pairs not to be
    tried again while they have that digest.
    """
    pairs = {one.files: one for one in disk if one.files not in unsettled}
    loaded = {one.identity: one for one in standing}
    lost = {one.identity for one in loaded.values() if one.files not in unsettled and _is_lost(one, pairs)}
    homes: dict[Identity, OnDisk] = {}
    for pair in pairs.values():
        if pair.identity is not None and pair.identity in lost:
            homes.setdefault(pair.identity, pair)

    moves = [Move(home.files, identity) for identity, home in homes.items() if home.digest == loaded[identity].digest]
    loads: list[Load] = []
    for pair in pairs.values():
        came = None if pair.identity is None else loaded.get(pair.identity)
        origin = came.files if came is not None and homes.get(came.identity) is pair else None
        if came is not None and (came.files == pair.files or origin is not None):
            due = came.digest != pair.digest
        else:  # new, or the twin of one that is loaded from elsewhere: it is tried in order to be refused by name
            due = came is None or came.files not in unsettled
        if due and refused.get(pair.files) != pair.digest:
            loads.append(Load(pair, origin))

    paths = {one.identity: one.files for one in loaded.values()} | {move.identity: move.files for move in moves}
    unloads: list[Unload] = []
    for identity in lost - homes.keys():
        files = loaded[identity].files
        pair_there = pairs.get(files)
        if pair_there is None:
            due = refused.get(files) != GONE
        else:  # loading what is there now takes this one away; unless that is loaded already, and has come here
            due = pair_there.identity is not None and paths.get(pair_there.identity) == files
        if due:
            unloads.append(Unload(files, identity))
    unloads.sort(key=lambda step: step.identity)
    return (*moves, *loads, *unloads)


def from_elsewhere(standing: Iterable[Standing], directory: Path) -> list[OnDisk]:
    """What was loaded from outside `directory`, as pairs that are as they were: no look at it judges them."""
    return [
        OnDisk(one.files, one.digest, one.identity) for one in standing if not one.files.wasm.is_relative_to(directory)
    ]


def _is_lost(one: Standing, pairs: Mapping[PluginFiles, OnDisk]) -> bool:
    """Whether what it was loaded from is gone, or has become another plugin. Who cannot tell its name, is not."""
    there = pairs.get(one.files)
    return there is None or there.identity not in (None, one.identity)
