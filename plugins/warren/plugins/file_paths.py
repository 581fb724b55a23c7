"""From a path that a guest gave to a directory that is open and a name in it, without ever leaving the plugin's root.

One name after another is looked up in the directory that the names before it have led to, by descriptors, and never
through a link: links are read and walked here, like the rest of the path. Whoever swaps a directory for a link at any
moment gets an error, or the old directory, and nothing else. Each name is asked for permission before it is looked up,
as part of the canonical path; so what a plugin may not know of it cannot find out about.

Rejected: `openat2` with RESOLVE_BENEATH (it follows links in one step, so that nobody could ask whether what they lead
to is granted; and many containers do not allow it), and `realpath` with a comparison (what was compared is not what is
opened).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from .globs import Path

#: As Linux has it.
MAX_PATH_BYTES: Final = 4096

#: Names that one path may be looked up by, those of links and of ways back included: each takes some 5 µs.
MAX_STEPS: Final = 128

#: Links that one path may go through, as Linux has it.
MAX_LINKS: Final = 40

_LOOK: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_ENTER: Final = _LOOK | os.O_DIRECTORY


class LeftRoot(Exception):
    """The path leads out of the plugin's directory; `by_link`: by a link that lies there, and not by what was asked."""

    def __init__(self, *, by_link: bool) -> None:
        super().__init__()
        self.by_link = by_link


class Place:
    """Where a path leads: `name` in the open directory `parent`; `found` is None when nothing is there.

    `path` is the canonical one. `as_directory`: the path says that it is one, by a `/` at its end.
    """

    __slots__ = ("as_directory", "found", "name", "parent", "path")

    def __init__(self, parent: int, path: Path, found: os.stat_result | None, *, as_directory: bool, name: str) -> None:
        self.parent = parent
        self.path = path
        self.name = name
        self.found = found
        self.as_directory = as_directory

    @property
    def there(self) -> os.stat_result:
        """What is there. Raises `OSError`: ENOENT, and ENOTDIR where the path says it is a directory."""
        if self.found is None:
            raise _error(errno.ENOENT)
        if self.as_directory and not stat.S_ISDIR(self.found.st_mode):
            raise _error(errno.ENOTDIR)
        return self.found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.parent)


class Walk:
    """One path being looked up, once, from `root`, an open directory, and below it `base`.

    `permit` raises for a path that may not be known of.
    """

    def __init__(self, root: int, base: Path, permit: Callable[[Path], None]) -> None:
        self.steps = 0
        self._root = root
        self._permit = permit
        self._path = list(base)
        self._links = 0
        self._directory = -1

    def to(self, text: str, *, follow: bool) -> Place:
        """Where `text` leads from the base, its last name being looked through if it is a link and `follow`.

        Raises `OSError`, `LeftRoot` and what `permit` does.
        """
        if not text:
            raise _error(errno.ENOENT)
        if text.startswith("/"):
            raise LeftRoot(by_link=False)
        try:
            self._go_back(len(self._path))
            return self._look_up(text, follow=follow)
        except BaseException:
            if self._directory >= 0:
                os.close(self._directory)
            raise

    def _look_up(self, text: str, *, follow: bool) -> Place:
        pending, as_directory = _names(text)
        while pending:
            self._step()
            name = pending.pop()
            if name == "..":
                if not self._path:
                    raise LeftRoot(by_link=self._links > 0)
                self._go_back(len(self._path) - 1)
                continue
            path = (*self._path, name)
            self._permit(path)
            found, target = self._look_at(name, read_link=bool(pending) or follow or as_directory)
            if target is not None:
                names, ends_as_directory = self._through_link(target)
                as_directory = as_directory or (not pending and ends_as_directory)
                pending += names
            elif not pending:
                return Place(self._directory, path, found, as_directory=as_directory, name=name)
            elif found is None:
                raise _error(errno.ENOENT)
            else:
                self._enter(name)
                self._path.append(name)
        path = tuple(self._path)
        self._permit(path)
        if path:
            name = path[-1]
            self._go_back(len(path) - 1)
        else:
            name = "."
        found = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        return Place(self._directory, path, found, as_directory=True, name=name)

    def _step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise _error(errno.ENAMETOOLONG)

    def _look_at(self, name: str, *, read_link: bool) -> tuple[os.stat_result | None, str | None]:
        """What is there, and what it links to, if it is a link and that is asked for."""
        try:
            fd = os.open(name, _LOOK, dir_fd=self._directory)
        except FileNotFoundError:
            return None, None
        try:
            found = os.fstat(fd)
            is_link = stat.S_ISLNK(found.st_mode)
            return found, os.readlink("", dir_fd=fd) if is_link and read_link else None
        finally:
            os.close(fd)

    def _through_link(self, target: str) -> tuple[list[str], bool]:
        self._links += 1
        if self._links > MAX_LINKS:
            raise _error(errno.ELOOP)
        if target.startswith("/"):
            raise LeftRoot(by_link=True)
        return _names(target)

    def _enter(self, name: str) -> None:
        entered = os.open(name, _ENTER, dir_fd=self._directory)
        os.close(self._directory)
        self._directory = entered

    def _go_back(self, length: int) -> None:
        """To the directory of the first names of the path, from the root: `..` may have become another one."""
        del self._path[length:]
        directory = os.dup(self._root)
        if self._directory >= 0:
            os.close(self._directory)
        self._directory = directory
        for name in self._path:
            self._step()
            self._enter(name)


def _names(text: str) -> tuple[list[str], bool]:
    """The names in a path, the first last, and whether it says of itself that it leads to a directory."""
    names = text.split("/")
    return [name for name in reversed(names) if name not in {"", "."}], names[-1] in {"", "."}


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
