"""The files and directories that one run has open, and what it may do with which path.

Descriptor 3 is the plugin's own directory, opened beforehand under the name `/`: there wasi-libc, Rust's std and Go
look for relative and for absolute paths alike. Any other directory's descriptor is a name, and no more: what is asked
for below it is looked up from the root, so that nothing can be reached by a name that a grant does not have.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from .file_paths import LeftRoot, Place, Walk
from .file_quota import Account, hold, is_held_by_others
from .globs import Path
from .listing import Listing
from .outcome import AuditSeverity
from .plugin_folder import FilePower, PluginFolder
from .wasi_abi import STDERR, Errno, Rights

#: The name that the plugin's directory has for the guest.
ROOT_NAME: Final = b"/"
ROOT_FD: Final = STDERR + 1

#: Fuel for looking up one name, some 10 µs, and more for each `PARTS_PER_STEP` parts of globs.
STEP_FUEL: Final = 500
PARTS_PER_STEP: Final = 50

#: Descriptors that all guests of this process may have between them: half of what the process may have.
MAX_OPEN_HERE: Final = max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)

_R = Rights

#: What can be done with a directory, and with a file at all, for reading it, and for writing it.
DIRECTORY_RIGHTS: Final = (
    _R.PATH_CREATE_DIRECTORY | _R.PATH_CREATE_FILE | _R.PATH_LINK_SOURCE | _R.PATH_LINK_TARGET | _R.PATH_OPEN
    | _R.FD_READDIR | _R.PATH_READLINK | _R.PATH_RENAME_SOURCE | _R.PATH_RENAME_TARGET | _R.PATH_FILESTAT_GET
    | _R.PATH_FILESTAT_SET_SIZE | _R.PATH_FILESTAT_SET_TIMES | _R.FD_FILESTAT_GET | _R.FD_FILESTAT_SET_TIMES
    | _R.PATH_SYMLINK | _R.PATH_REMOVE_DIRECTORY | _R.PATH_UNLINK_FILE | _R.FD_FDSTAT_SET_FLAGS | _R.FD_SYNC
    | _R.FD_DATASYNC | _R.POLL_FD_READWRITE
)  # fmt: skip
FILE_RIGHTS: Final = (
    _R.FD_SEEK | _R.FD_TELL | _R.FD_FDSTAT_SET_FLAGS | _R.FD_SYNC | _R.FD_DATASYNC | _R.FD_ADVISE | _R.FD_FILESTAT_GET
    | _R.POLL_FD_READWRITE
)  # fmt: skip
READ_RIGHTS: Final = int(_R.FD_READ)
WRITE_RIGHTS: Final = _R.FD_WRITE | _R.FD_ALLOCATE | _R.FD_FILESTAT_SET_SIZE | _R.FD_FILESTAT_SET_TIMES
ALL_RIGHTS: Final = DIRECTORY_RIGHTS | FILE_RIGHTS | READ_RIGHTS | WRITE_RIGHTS


class Auditor(Protocol):
    """Who is told of what a run did with files; see `HostSession`."""

    def used(self, power: str, asked: str) -> None: ...

    def refused(self, power: str, asked: str, reason: str, *, severity: AuditSeverity = "warning") -> None: ...


class Refused(Exception):
    """What a call answers instead of doing something."""

    def __init__(self, answer: Errno) -> None:
        super().__init__(answer)
        self.answer = answer


class OpenFile:
    """A regular file. `position` is where the next read or write is, `append` that a write is at the end instead."""

    __slots__ = ("append", "fd", "path", "position", "rights")

    def __init__(self, fd: int, path: Path, rights: int, *, append: bool) -> None:
        self.fd = fd
        self.path = path
        self.rights = rights
        self.append = append
        self.position = 0


class OpenDirectory:
    """A directory, by its path; `inheriting` is what may be done with what is opened below it."""

    __slots__ = ("inheriting", "listing", "path", "rights")

    def __init__(self, path: Path, rights: int, inheriting: int) -> None:
        self.path = path
        self.rights = rights
        self.inheriting = inheriting
        self.listing: Listing | None = None


#: What guests of this process have open on the host.
open_here: Final[set[OpenFile | Listing]] = set()


class Files:
    """The descriptors of one run. `close_all` must be called.

    Methods raise `Refused` for what the grant does not allow, which is then also told to the auditor, and `OSError`.
    """

    def __init__(self, folder: PluginFolder, auditor: Auditor) -> None:
        self._folder = folder
        self._auditor = auditor
        self._open: dict[int, OpenFile | OpenDirectory] = {ROOT_FD: OpenDirectory((), DIRECTORY_RIGHTS, ALL_RIGHTS)}
        self._root = -1
        self._work = 0
        self._step_fuel = STEP_FUEL * (1 + (folder.read.parts + folder.write.parts) // PARTS_PER_STEP)

    def take_work(self) -> int:
        """The fuel for what was done since this was last asked."""
        work, self._work = self._work, 0
        return work

    def add_work(self, fuel: int) -> None:
        self._work += fuel

    # Descriptors.

    def descriptor(self, fd: int, right: int = 0) -> OpenFile | OpenDirectory:
        """EBADF when there is none, ENOTCAPABLE when it is not for that."""
        found = self._open.get(fd)
        if found is None:
            raise Refused(Errno.BADF)
        if right & ~found.rights:
            raise Refused(Errno.NOTCAPABLE)
        return found

    def file(self, fd: int, right: int = 0) -> OpenFile:
        """`descriptor`, and EISDIR when it is a directory."""
        found = self.descriptor(fd)
        if not isinstance(found, OpenFile):
            raise Refused(Errno.ISDIR)
        if right & ~found.rights:
            raise Refused(Errno.NOTCAPABLE)
        return found

    def directory(self, fd: int, right: int = 0) -> OpenDirectory:
        """`descriptor`, and ENOTDIR when it is a file."""
        found = self.descriptor(fd)
        if not isinstance(found, OpenDirectory):
            raise Refused(Errno.NOTDIR)
        if right & ~found.rights:
            raise Refused(Errno.NOTCAPABLE)
        return found

    def is_open(self, fd: int) -> bool:
        return fd in self._open

    def check_room(self, asked: str) -> None:
        """EMFILE when the run has as many files open as it may, ENFILE when all guests here together have."""
        if len(self._open) - (ROOT_FD in self._open) >= self._folder.max_open_files:
            reason = f"it has {self._folder.max_open_files:,} files open, and may have no more"
            raise self.refusal("max_open_files", asked, reason, Errno.MFILE)
        if len(open_here) >= MAX_OPEN_HERE:
            raise Refused(Errno.NFILE)

    def add(self, opened: OpenFile | OpenDirectory) -> int:
        """Its number: the lowest that is free."""
        fd = ROOT_FD
        while fd in self._open:
            fd += 1
        self._open[fd] = opened
        if isinstance(opened, OpenFile):
            open_here.add(opened)
        return fd

    def renumber(self, fd: int, to: int) -> None:
        """Have `to`, which is closed, stand for what `fd` does, which then stands for nothing."""
        moved = self.descriptor(fd)
        self.descriptor(to)
        if fd != to:
            self.close(to)
            del self._open[fd]
            self._open[to] = moved

    def close(self, fd: int) -> None:
        closed = self.descriptor(fd)
        del self._open[fd]
        if isinstance(closed, OpenFile):
            self._close_file(closed)
        else:
            self.end_listing(closed)

    def _close_file(self, closed: OpenFile) -> None:
        open_here.discard(closed)
        try:
            with self.changing() as account:
                found = os.fstat(closed.fd)
                if not found.st_nlink and not is_held_by_others(closed.fd):
                    account.spend(-found.st_size)
        except OSError:  # it is charged until it is measured again
            pass
        finally:
            os.close(closed.fd)

    def close_all(self) -> None:
        """The run has ended."""
        for fd in list(self._open):
            self.close(fd)
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def begin_listing(self, directory: OpenDirectory) -> Listing:
        """Read the directory from its beginning."""
        self.end_listing(directory)
        with self.at(directory, ".", follow=False) as place:
            fd = os.open(place.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.parent)
        try:
            directory.listing = Listing(fd, lambda name: self._may_know((*directory.path, name)))
        finally:
            os.close(fd)
        open_here.add(directory.listing)
        self._auditor.used("read_files", shown(directory.path))
        return directory.listing

    def end_listing(self, directory: OpenDirectory) -> None:
        if directory.listing is not None:
            open_here.discard(directory.listing)
            directory.listing.close()
            directory.listing = None

    # Paths, and what may be done with them.

    def at(self, directory: OpenDirectory, text: str, *, follow: bool, power: FilePower = "read_files") -> Place:
        """Where `text` leads from `directory`: EPERM if that is not below the root, EACCES where no glob leads to."""
        if self._folder.forbid is not None:
            self._folder.forbid("read_files", text)

        def permit(path: Path) -> None:
            if not self._may_know(path):
                raise self._not_granted(power, path)

        walk = Walk(self._root_fd(), directory.path, permit)
        try:
            return walk.to(text, follow=follow)
        except LeftRoot as left:
            who = "a link on the way" if left.by_link else "the path"
            raise self.refusal(
                power,
                text,
                f"{who} leads out of the plugin's directory",
                Errno.PERM,
                severity="warning" if left.by_link else "critical",
            ) from None
        finally:
            self._work += (walk.steps + 1) * self._step_fuel

    def _root_fd(self) -> int:
        if self._root < 0:
            self._root = os.open(self._folder.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._root

    def _may_know(self, path: Path) -> bool:
        read, write = self._folder.read, self._folder.write
        return read.match(path) or write.match(path) or read.lead_below(path) or write.lead_below(path)

    def check_see(self, path: Path, found: os.stat_result) -> None:
        """Raises `Refused` where a path that may be walked leads to what is no directory, and no glob matches it."""
        if not (stat.S_ISDIR(found.st_mode) or self._folder.read.match(path) or self._folder.write.match(path)):
            raise self._not_granted("read_files", path)

    def check_read(self, path: Path) -> None:
        """Raises `Refused` where no glob for reading matches."""
        if not self._folder.read.match(path):
            raise self._not_granted("read_files", path)
        self._auditor.used("read_files", shown(path))

    def check_write(self, path: Path) -> None:
        """Raises `Refused` where no glob for writing matches."""
        self._check_write(path, granted=self._folder.write.match(path))

    def check_write_directory(self, path: Path) -> None:
        """A directory may also be made and removed where something below it may be written."""
        write = self._folder.write
        self._check_write(path, granted=write.match(path) or write.lead_below(path))

    def _check_write(self, path: Path, *, granted: bool) -> None:
        if not granted:
            raise self._not_granted("write_files", path)
        if self._folder.forbid is not None:
            self._folder.forbid("write_files", shown(path))
        self._auditor.used("write_files", shown(path))

    def check_move(self, old: Path, new: Path, *, is_directory: bool) -> None:
        """Raises `Refused` where the file, or what is below the directory, could be used in a way that it could not be.

        Both names have to be for writing, and the new one must not be for reading unless the old one is.
        """
        read, write = self._folder.read, self._folder.write
        self.check_write(old)
        self.check_write(new)
        if is_directory:
            if not (write.cover(old) and write.cover(new)):
                raise self._not_granted("write_files", old if write.cover(new) else new, "all that is below ")
            reveals = not read.cover(old) and (read.match(new) or read.lead_below(new))
        else:
            reveals = read.match(new) and not read.match(old)
        if reveals:
            raise self._not_granted("read_files", old)

    def _not_granted(self, power: FilePower, path: Path, what: str = "") -> Refused:
        return self.refusal(power, shown(path), f"no glob in {power} matches {what}it", Errno.ACCES)

    def refusal(
        self, power: str, asked: str, reason: str, answer: Errno, *, severity: AuditSeverity = "warning"
    ) -> Refused:
        """To be raised; the auditor is told."""
        self._auditor.refused(power, asked, reason, severity=severity)
        return Refused(answer)

    @contextmanager
    def changing(self) -> Iterator[Account]:
        """While nobody else changes what the directory holds; see `Ledger`. A plugin that may only read holds nothing.

        Raises `OSError` for what the block does: EDQUOT, which the auditor is told, when the quota is used up.
        """
        ledger = self._folder.ledger
        if ledger is None:
            yield Account(0)
            return
        try:
            with ledger.changing(self._folder.max_bytes) as account:
                yield account
        except OSError as error:
            if error.errno == errno.EDQUOT:
                limit = f"{self._folder.max_bytes:,} bytes"
                self._auditor.refused("files_bytes", limit, "the plugin's directory holds as much as it may")
                if ledger.wants_measuring():
                    asyncio.get_running_loop().run_in_executor(None, ledger.try_measure)
            raise


def shown(path: Path) -> str:
    """As audit events have it."""
    return "/".join(path) or "."


def hold_regular(fd: int) -> int:
    """Make sure once more that it is a file, now that it is open, and hold it; its size."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise Refused(Errno.ACCES)
    hold(fd)
    return found.st_size
