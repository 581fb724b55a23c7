"""Which changes of a project are its author's: not what a build leaves, nor what is hidden or fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from watchfiles import BaseFilter, Change, awatch

from .building import BUILT

#: Where tools of some languages keep what they fetched or made.
OTHERS_FOLDERS: Final = ("node_modules", "target", "__pycache__", "zig-out")


class AuthorsOwn(BaseFilter):
    """What lies in no hidden folder below the project, nor in one of a tool's, nor where the plugin is built to."""

    def __init__(self, project: Path, *built: Path) -> None:
        super().__init__()
        self.project = project.resolve()
        self._built = [path.resolve() for path in (project / BUILT, *built)]

    def __call__(self, change: Change, path: str) -> bool:  # noqa: ARG002 - watchfiles' signature
        place = Path(path)
        if any(place.is_relative_to(folder) for folder in self._built):
            return False
        parts = place.relative_to(self.project).parts
        return not any(part.startswith(".") or part in OTHERS_FOLDERS or part.endswith("~") for part in parts)


async def watch(wanted: AuthorsOwn, changed: Callable[[Sequence[Path]], None]) -> None:
    """Tell what has changed, until cancelled. Edits within a tenth of a second are one."""
    async for changes in awatch(wanted.project, watch_filter=wanted, debounce=400, step=100):
        changed([Path(path) for _, path in changes])
