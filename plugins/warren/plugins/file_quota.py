"""How much a plugin's directory holds, for all runs of the plugin in all worker processes of this machine.

The number stands in a file beside the directory, out of guests' reach. Whatever changes it happens while that file is
locked, together with its cause: so it is exact, as long as everybody asks it. What it cannot know (a process that was
killed in between, an operator who copies files) is set right by measuring the directory: at load, and when the quota
has refused something. Measuring takes no lock, for nobody's guests shall wait for it: it counts only if nothing else
has changed the number meanwhile.

Each name in the directory is charged `ENTRY_BYTES` besides the size of its file, so that neither a million empty files
nor blocks half full take more of a disk than is counted; a hole in a file counts as if it were written. A file without
a name left is charged until the last run that has it open closes it: runs hold a shared `flock` on what they have open,
and who can get an exclusive one was the last.

Rejected: the filesystem's own quotas (they are by user or project, and want root), and a number per process that is
measured now and then (N processes would have N quotas, and a guest that fills and empties would never be seen).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import Struct
from typing import Final

#: What a name costs: a block of most filesystems, which is more than its inode and its place in a directory take.
ENTRY_BYTES: Final = 4096

#: Bytes held, and how often that was changed.
_LEDGER: Final = Struct("<qQ")

#: The lock is held for microseconds; who waits longer waits for a process that was stopped, and is told so.
_PATIENCE_S: Final = 0.05
_RETRY_S: Final = 0.0002

#: Between two measurings because of a quota that is used up.
REMEASURE_S: Final = 10.0

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Account:
    """The number while it is locked. `room` is what may be added; below zero when the operator has put more there."""

    __slots__ = ("room", "spent")

    def __init__(self, room: int) -> None:
        self.room = room
        self.spent = 0

    def spend(self, size: int) -> None:
        """Add to what is held; take away, where `size` is below zero."""
        self.spent += size
        self.room -= size

    def check(self, size: int) -> None:
        """Raises `OSError` (EDQUOT) when so much is not left."""
        if size > max(0, self.room):
            raise OSError(errno.EDQUOT, "the plugin's directory is full")


class Ledger:
    """The number for the directory `folder`, kept in the file `path`. Holds nothing open."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path = path
        self._folder = folder
        self._measured_at = 0.0

    @contextmanager
    def changing(self, limit_bytes: int) -> Iterator[Account]:
        """Locks it for the block, which must be short. Raises `OSError`: EAGAIN when somebody else does not let go."""
        fd = self._locked()
        try:
            used, changes = self._read(fd)
            account = Account(limit_bytes - used)
            try:
                yield account
            finally:
                if account.spent:
                    os.pwrite(fd, _LEDGER.pack(max(0, used + account.spent), changes + 1), 0)
        finally:
            os.close(fd)

    def _locked(self) -> int:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        give_up = time.monotonic() + _PATIENCE_S
        while not _try_lock(fd):
            if time.monotonic() > give_up:
                os.close(fd)
                raise OSError(errno.EAGAIN, f"another process holds {self._path}")
            time.sleep(_RETRY_S)
        return fd

    def _read(self, fd: int) -> tuple[int, int]:
        data = os.pread(fd, _LEDGER.size, 0)
        if len(data) != _LEDGER.size:  # it is new, or the old one was deleted
            data = _LEDGER.pack(measured(self._folder), 0)
            os.pwrite(fd, data, 0)
        used, changes = _LEDGER.unpack(data)
        return used, changes

    def measure(self) -> None:
        """Set the number right, if nothing changes it meanwhile. Takes some 3 µs for each name in the directory."""
        self._measured_at = time.monotonic()
        fd = self._locked()
        try:
            _, before = self._read(fd)
        finally:
            os.close(fd)
        held = measured(self._folder)
        fd = self._locked()
        try:
            used, changes = self._read(fd)
            if changes == before and used != held:
                os.pwrite(fd, _LEDGER.pack(held, changes + 1), 0)
        finally:
            os.close(fd)

    def try_measure(self) -> None:
        """The same for who cannot do anything about it."""
        with suppress(OSError):
            self.measure()

    def wants_measuring(self) -> bool:
        """Whether it was last measured long enough ago to do it again."""
        return time.monotonic() - self._measured_at > REMEASURE_S


def measured(folder: Path) -> int:
    """What the names below `folder` are charged, and the files that they name, each once."""
    total, linked = 0, set[tuple[int, int]]()
    pending = [str(folder)]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:  # it has gone, or cannot be read: nor can the plugin
            continue
        for entry in entries:
            total += ENTRY_BYTES
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(found.st_mode):
                pending.append(entry.path)
            elif stat.S_ISREG(found.st_mode) and (found.st_dev, found.st_ino) not in linked:
                total += found.st_size
                if found.st_nlink > 1:
                    linked.add((found.st_dev, found.st_ino))
    return total


def hold(fd: int) -> None:
    """Tell others that this file is open, until `fd` is closed."""
    _try_lock(fd, fcntl.LOCK_SH)


def is_held_by_others(fd: int) -> bool:
    """Whether a run somewhere has this file open, besides who asks with `fd`."""
    return not _try_lock(fd)


def size_if_last(parent: int, name: str, found: os.stat_result) -> int:
    """What is given back for a file that is about to lose this name. The ledger is locked."""
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        return 0
    try:
        fd = os.open(name, _READ, dir_fd=parent)
    except OSError:
        return 0
    try:
        return 0 if is_held_by_others(fd) else found.st_size
    finally:
        os.close(fd)


def _try_lock(fd: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
