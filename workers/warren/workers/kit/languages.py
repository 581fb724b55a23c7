"""The languages there are, each a folder: in the wheel beside the packages, in a checkout `plugins/sdk`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..samples import sdk_folder
from .errors import KitError, ToolMissing
from .toolchain import FILE_NAME, Toolchain, find_tools, read_toolchain


@dataclass(frozen=True, slots=True)
class Language:
    """One language, named as `--lang` names it."""

    name: str
    folder: Path
    toolchain: Toolchain

    @property
    def template(self) -> Path:
        return self.folder / "template"

    @property
    def sdk(self) -> Path:
        return self.folder / "warren"

    def missing(self, project: Path) -> ToolMissing | None:
        """The first of its tools that is not here; None if all are. Runs each tool once."""
        try:
            find_tools(self.toolchain, project)
        except ToolMissing as missing:
            return missing
        return None


def languages() -> list[Language]:
    """All of them, by name."""
    folders = sorted(path.parent for path in sdk_folder().glob(f"*/{FILE_NAME}"))
    return [Language(folder.name, folder, read_toolchain(folder / FILE_NAME)) for folder in folders]


def language(name: str) -> Language:
    """Raises `KitError` when there is none of that name."""
    known = languages()
    for one in known:
        if one.name == name.lower():
            return one
    raise KitError(f"there is no language {name!r}", f"there are: {', '.join(one.name for one in known)}")
