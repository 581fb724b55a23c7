"""A plugin's own directory: where it is, what the grant allows in it, and how full it may be.

All versions of a plugin have the same one, `<data>/<plugin>`, and only plugins that were granted globs have one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from warren.manifests import Grant

from .errors import GuestFault, LoadFailed
from .file_quota import Ledger
from .files import PluginFiles
from .globs import Globs
from .user_folders import state_folder

DATA_VARIABLE: Final = "WARREN_DATA"

#: Names in all globs of a plugin together. Each is compared with each name in a path.
MAX_GLOB_PARTS: Final = 1_000

#: The two permissions, by their names in `[permissions]`.
FilePower = Literal["read_files", "write_files"]


def data_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Where plugins keep files: `WARREN_DATA`, else `warren` in the user's state folder; None for nowhere."""
    chosen = environment.get(DATA_VARIABLE)
    return Path(chosen).absolute() if chosen else state_folder(environment)


@dataclass(frozen=True, slots=True)
class PluginFolder:
    """What the runs of one loaded plugin share. `ledger` is None where the plugin may only read.

    `forbid` is asked before every use that the grant allows, and ends the run by raising `GuestFault`.
    """

    root: Path
    read: Globs
    write: Globs
    max_open_files: int
    max_bytes: int
    ledger: Ledger | None
    forbid: Callable[[FilePower, str], None] | None = None

    def for_shadow(self, called: list[str]) -> PluginFolder:
        """The same, read only: who writes ends its run, and it is noted in `called`."""

        def forbid(power: FilePower, _path: str) -> None:
            if power == "write_files":
                called.append("WASI's files, for writing")
                raise GuestFault("unavailable", "a shadow may not write files")

        return replace(self, forbid=forbid)


class PluginFolders:
    """Where the directories of all plugins are: in `data`, which is apart from `plugins`, the folder they come from."""

    def __init__(self, data: Path | None = None, plugins: Path | None = None) -> None:
        self._data = data_folder() if data is None else data.absolute()
        self._plugins = plugins

    def folder(self, grant: Grant, files: PluginFiles) -> PluginFolder | None:
        """The directory of this plugin, made if it is not there, and measured; None when it may use no files.

        Raises `LoadFailed` when it cannot be had. Blocks for some 3 µs for each name in it.
        """
        if not (grant.read_files or grant.write_files):
            return None
        read, write = Globs(grant.read_files), Globs(grant.write_files)
        if read.parts + write.parts > MAX_GLOB_PARTS:
            reason = f"read_files and write_files have more than {MAX_GLOB_PARTS:,} names between slashes"
            raise LoadFailed(str(files.manifest), reason)
        root = self._place(grant.plugin, files)
        ledger = None
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            if grant.write_files:
                ledger = Ledger(root.with_name(f"{root.name}.held"), root)
                ledger.measure()
        except OSError as error:
            reason = f"its own directory {root} cannot be used: {error.strerror or error}"
            raise LoadFailed(str(files.manifest), reason, may_pass=True) from error
        limits = grant.limits
        return PluginFolder(root, read, write, limits.max_open_files, limits.files_bytes, ledger)

    def _place(self, plugin: str, files: PluginFiles) -> Path:
        if self._data is None:
            reason = f"there is no place for its files: name a folder in {DATA_VARIABLE}"
            raise LoadFailed(str(files.manifest), reason, may_pass=True)
        root = self._data / plugin
        here = root.resolve()
        for modules in (self._plugins, files.wasm.parent):
            if modules is not None and (
                here.is_relative_to(modules.resolve()) or modules.resolve().is_relative_to(here)
            ):
                # What a plugin writes there would be loaded as one.
                reason = f"its files must not lie among plugins, as {root} does; name another folder in {DATA_VARIABLE}"
                raise LoadFailed(str(files.manifest), reason, may_pass=True)
        return root
