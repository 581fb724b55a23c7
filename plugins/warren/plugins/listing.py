"""Reading a directory of any size in answers of bounded size and bounded work, as `fd_readdir` has it.

An answer that is shorter than the guest's buffer means that there is no more, so each has to fill it, if need be with a
part of an entry, and the guest asks for that entry again. What it can ask for is what the last answer held, and what
comes after that: a cookie is a place in the order that the directory happens to be read in, and to keep all of a large
one would take memory that a guest is not given. (From the beginning it is another listing.)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from .wasi_abi import DIRENT, FileType

#: Names that one answer looks at, at 1 to 2 µs each; where few of them may be shown that can be too few to fill it.
MAX_LOOKED_AT: Final = 4_096

#: The largest buffer that is filled: with names of one letter each, so many names fill it.
MAX_LISTING_BYTES: Final = 64 << 10


class Listing:
    """One directory being read."""

    __slots__ = ("_first", "_is_done", "_kept", "_names", "_show", "looked_at")

    def __init__(self, directory: int, show: Callable[[str], bool]) -> None:
        """`directory` is an open descriptor, which is not kept. `show` says whether the guest may see a name."""
        inode = os.fstat(directory).st_ino
        self._show = show
        self._names = os.scandir(directory)
        #: The entries from cookie `_first` on that the last answer was made of. `..` is the directory itself: of what
        #: is above the root nobody is told.
        self._kept = [_entry(n, inode, FileType.DIRECTORY, b"." * n) for n in (1, 2)]
        self._first = 0
        self._is_done = False
        #: Names looked at, for whoever charges for it.
        self.looked_at = 0

    def close(self) -> None:
        self._names.close()

    def answer(self, cookie: int, length: int) -> bytes | None:
        """The entries from `cookie` on, cut off at `length` bytes; fewer where there are no more.

        None when so many had to be left out that there is no end of it yet: then it can be asked for again. Raises
        ValueError for a cookie from elsewhere.
        """
        known = cookie - self._first
        if not 0 <= known <= len(self._kept):
            raise ValueError(cookie)
        del self._kept[:known]
        self._first = cookie
        size = sum(map(len, self._kept))
        budget = MAX_LOOKED_AT
        while size < length and not self._is_done:
            if not budget:
                return None
            budget -= 1
            entry = self._next()
            if entry is not None:
                self._kept.append(entry)
                size += len(entry)
        return b"".join(self._kept)[:length]

    def _next(self) -> bytes | None:
        """The next entry, or None when that must not be shown, or there is no more."""
        found = next(self._names, None)
        self.looked_at += 1
        if found is None:
            self._is_done = True
            return None
        try:
            name = found.name.encode()
        except UnicodeEncodeError:  # nor could the guest ask for it
            return None
        if not self._show(found.name):
            return None
        if found.is_symlink():
            kind = FileType.SYMBOLIC_LINK
        elif found.is_dir(follow_symlinks=False):
            kind = FileType.DIRECTORY
        else:
            kind = FileType.REGULAR_FILE if found.is_file(follow_symlinks=False) else FileType.UNKNOWN
        return _entry(self._first + len(self._kept) + 1, found.inode(), kind, name)


def _entry(cookie: int, inode: int, kind: FileType, name: bytes) -> bytes:
    return DIRENT.pack(cookie, inode, len(name), kind) + name
