"""What the functions of WASI preview 1 do with open files and directories, each under its WASI name.

Reads and writes are done at once, in the thread of the event loop, so many bytes at a time as a page cache gives in
10 µs; to hand each to a thread would take ten times as long. What waits for a disk by its nature waits in a thread, and
its guest with it: `fd_sync` and `fd_datasync`. Files that guests use belong on a local disk for that reason.

Whatever a guest may say of a position is kept here and not by the host's descriptor, which is only ever read and
written at a place. Bytes and names are charged for; the call itself is in `wasi`.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from .guest import Guest
from .listing import MAX_LISTING_BYTES
from .wasi_abi import (
    FDSTAT,
    FILESTAT,
    IOVEC,
    PRESTAT,
    U32,
    U64,
    Errno,
    FdFlags,
    FileType,
    Rights,
    SetTimes,
    Whence,
)
from .wasi_calls import MAX_VECTORS, gathered
from .wasi_descriptors import ROOT_FD, ROOT_NAME, Files, OpenDirectory, OpenFile, Refused

#: What one read gives at most. It says how much that was, and a libc asks for the rest in another.
MAX_READ_BYTES: Final = 64 << 10

#: Fuel for each name that a listing looks at.
NAME_FUEL: Final = 100

MAX_OFFSET: Final = (1 << 63) - 1

_SYNCED: Final = FdFlags.DSYNC | FdFlags.RSYNC | FdFlags.SYNC

Call = Callable[..., Errno]


# Open files.


def fd_read(  # noqa: PLR0917 - preview 1 has it so
    guest: Guest, files: Files, fd: int, vectors_at: int, count: int, read_at: int
) -> Errno:
    file = files.file(fd, Rights.FD_READ)
    file.position += _read(guest, file, vectors_at, count, read_at, file.position)
    return Errno.SUCCESS


def fd_pread(  # noqa: PLR0917 - preview 1 has it so
    guest: Guest, files: Files, fd: int, vectors_at: int, count: int, offset: int, read_at: int
) -> Errno:
    file = files.file(fd, Rights.FD_READ | Rights.FD_SEEK)
    _read(guest, file, vectors_at, count, read_at, _checked(offset))
    return Errno.SUCCESS


def _read(  # noqa: PLR0917 - preview 1 has it so
    guest: Guest, file: OpenFile, vectors_at: int, count: int, read_at: int, offset: int
) -> int:
    guest.check_range(read_at, U32.size)
    count = min(count, MAX_VECTORS)
    guest.charge(count * IOVEC.size)
    pieces, room = [], MAX_READ_BYTES
    for pointer, length in IOVEC.iter_unpack(guest.read(vectors_at, count * IOVEC.size)):
        guest.check_range(pointer, length)
        pieces.append((pointer, min(length, room)))
        room -= pieces[-1][1]
    data = os.pread(file.fd, MAX_READ_BYTES - room, offset)
    guest.charge(len(data))
    done = 0
    for pointer, length in pieces:
        guest.write(pointer, data[done : done + length])
        done += length
    guest.write(read_at, U32.pack(len(data)))
    return len(data)


def fd_write(  # noqa: PLR0917 - preview 1 has it so
    guest: Guest, files: Files, fd: int, vectors_at: int, count: int, written_at: int
) -> Errno:
    file = files.file(fd, Rights.FD_WRITE)
    offset = None if file.append else file.position
    file.position = _write(guest, files, file, vectors_at, count, written_at, offset)
    return Errno.SUCCESS


def fd_pwrite(  # noqa: PLR0917 - preview 1 has it so
    guest: Guest, files: Files, fd: int, vectors_at: int, count: int, offset: int, written_at: int
) -> Errno:
    file = files.file(fd, Rights.FD_WRITE | Rights.FD_SEEK)
    _write(guest, files, file, vectors_at, count, written_at, _checked(offset))
    return Errno.SUCCESS


def _write(  # noqa: PLR0917 - preview 1 has it so
    guest: Guest, files: Files, file: OpenFile, vectors_at: int, count: int, written_at: int, offset: int | None
) -> int:
    """Write at `offset`, or at the end, as much as the quota lets; the offset after it."""
    guest.check_range(written_at, U32.size)
    data = gathered(guest, vectors_at, count)
    guest.charge(len(data))
    with files.changing() as account:
        size = os.fstat(file.fd).st_size
        start = size if offset is None else offset
        if data and start + len(data) > size:
            room = size + max(0, account.room) - start
            if room <= 0:
                account.check(start + len(data) - size)
            data = data[:room]
        written = os.pwrite(file.fd, data, start) if data else 0
        account.spend(max(0, start + written - size) if written else 0)
    guest.write(written_at, U32.pack(written))
    return start + written


def fd_seek(  # noqa: PLR0917 - preview 1 has it so
    guest: Guest, files: Files, fd: int, offset: int, whence: int, position_at: int
) -> Errno:
    file = files.file(fd, Rights.FD_SEEK)
    guest.check_range(position_at, U64.size)
    if whence == Whence.SET:
        base = 0
    elif whence == Whence.CUR:
        base = file.position
    elif whence == Whence.END:
        base = os.fstat(file.fd).st_size
    else:
        return Errno.INVAL
    file.position = _checked(base + (offset - (1 << 64) if offset > MAX_OFFSET else offset))
    guest.write(position_at, U64.pack(file.position))
    return Errno.SUCCESS


def fd_tell(guest: Guest, files: Files, fd: int, position_at: int) -> Errno:
    file = files.file(fd, Rights.FD_TELL)
    guest.write(position_at, U64.pack(file.position))
    return Errno.SUCCESS


def fd_allocate(_guest: Guest, files: Files, fd: int, offset: int, length: int) -> Errno:
    """Makes the file that long, which is what the quota counts; it makes sure of no blocks on the disk."""
    file = files.file(fd, Rights.FD_ALLOCATE)
    end = _checked(offset + length)
    if not length:
        return Errno.INVAL
    _resize(files, file, lambda size: max(size, end))
    return Errno.SUCCESS


def fd_filestat_set_size(_guest: Guest, files: Files, fd: int, size: int) -> Errno:
    file = files.file(fd, Rights.FD_FILESTAT_SET_SIZE)
    _resize(files, file, lambda _: _checked(size))
    return Errno.SUCCESS


def _resize(files: Files, file: OpenFile, wanted: Callable[[int], int]) -> None:
    with files.changing() as account:
        before = os.fstat(file.fd).st_size
        after = wanted(before)
        if after > before:
            account.check(after - before)
        if after != before:
            os.ftruncate(file.fd, after)
            account.spend(after - before)


def fd_advise(_guest: Guest, files: Files, fd: int, offset: int, length: int, advice: int) -> Errno:
    """Takes the advice and does nothing with it: to read ahead is work that nobody has asked for yet."""
    files.file(fd, Rights.FD_ADVISE)
    _checked(offset + length)
    return Errno.SUCCESS if advice <= 5 else Errno.INVAL


def _checked(offset: int) -> int:
    if not 0 <= offset <= MAX_OFFSET:
        raise Refused(Errno.INVAL)
    return offset


# Descriptors of either kind.


def fd_close(_guest: Guest, files: Files, fd: int) -> Errno:
    files.close(fd)
    return Errno.SUCCESS


def fd_renumber(_guest: Guest, files: Files, fd: int, to: int) -> Errno:
    files.renumber(fd, to)
    return Errno.SUCCESS


def fd_fdstat_get(guest: Guest, files: Files, fd: int, stat_at: int) -> Errno:
    opened = files.descriptor(fd)
    if isinstance(opened, OpenFile):
        flags = FdFlags.APPEND if opened.append else 0
        guest.write(stat_at, FDSTAT.pack(FileType.REGULAR_FILE, flags, opened.rights, 0))
    else:
        guest.write(stat_at, FDSTAT.pack(FileType.DIRECTORY, 0, opened.rights, opened.inheriting))
    return Errno.SUCCESS


def fd_fdstat_set_flags(_guest: Guest, files: Files, fd: int, flags: int) -> Errno:
    opened = files.descriptor(fd, Rights.FD_FDSTAT_SET_FLAGS)
    append = check_flags(flags)
    if isinstance(opened, OpenFile):
        opened.append = append
    return Errno.SUCCESS


def check_flags(flags: int) -> bool:
    """Whether they say that writes are at the end. Nothing here ever blocks; who wants to be sure calls `fd_sync`."""
    if flags & ~(FdFlags.APPEND | FdFlags.NONBLOCK | _SYNCED):
        raise Refused(Errno.INVAL)
    if flags & _SYNCED:
        raise Refused(Errno.NOTSUP)
    return bool(flags & FdFlags.APPEND)


def fd_fdstat_set_rights(_guest: Guest, files: Files, fd: int, rights: int, inheriting: int) -> Errno:
    """Rights can be given up, and not be gained."""
    opened = files.descriptor(fd)
    had = opened.inheriting if isinstance(opened, OpenDirectory) else 0
    if rights & ~opened.rights or inheriting & ~had:
        return Errno.NOTCAPABLE
    opened.rights = rights
    if isinstance(opened, OpenDirectory):
        opened.inheriting = inheriting
    return Errno.SUCCESS


def fd_filestat_get(guest: Guest, files: Files, fd: int, stat_at: int) -> Errno:
    opened = files.descriptor(fd, Rights.FD_FILESTAT_GET)
    guest.check_range(stat_at, FILESTAT.size)
    if isinstance(opened, OpenFile):
        found = os.fstat(opened.fd)
    else:
        with files.at(opened, ".", follow=False) as place:
            found = place.there
    guest.write(stat_at, packed_stat(found))
    return Errno.SUCCESS


def packed_stat(found: os.stat_result) -> bytes:
    """All devices are one: a guest has one directory."""
    times = (max(0, each) for each in (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns))
    return FILESTAT.pack(0, found.st_ino, file_type(found), found.st_nlink, found.st_size, *times)


def file_type(found: os.stat_result) -> FileType:
    kinds = {
        stat.S_IFREG: FileType.REGULAR_FILE,
        stat.S_IFDIR: FileType.DIRECTORY,
        stat.S_IFLNK: FileType.SYMBOLIC_LINK,
    }
    return kinds.get(stat.S_IFMT(found.st_mode), FileType.UNKNOWN)


def fd_filestat_set_times(
    _guest: Guest, files: Files, fd: int, accessed_ns: int, modified_ns: int, flags: int
) -> Errno:
    opened = files.descriptor(fd, Rights.FD_FILESTAT_SET_TIMES)
    if isinstance(opened, OpenFile):
        os.utime(opened.fd, ns=wanted_times(os.fstat(opened.fd), accessed_ns, modified_ns, flags))
        return Errno.SUCCESS
    with files.at(opened, ".", follow=False, power="write_files") as place:
        files.check_write(place.path)
        times = wanted_times(place.there, accessed_ns, modified_ns, flags)
        os.utime(place.name, ns=times, dir_fd=place.parent, follow_symlinks=False)
    return Errno.SUCCESS


def wanted_times(found: os.stat_result, accessed_ns: int, modified_ns: int, flags: int) -> tuple[int, int]:
    """The two times, each as it is, as it was given, or as it is now. EINVAL for what cannot be."""
    if flags & ~(SetTimes.ATIM | SetTimes.ATIM_NOW | SetTimes.MTIM | SetTimes.MTIM_NOW):
        raise Refused(Errno.INVAL)
    now_ns = time.time_ns()
    accessed = _time(found.st_atime_ns, accessed_ns, now_ns, flags & SetTimes.ATIM, flags & SetTimes.ATIM_NOW)
    modified = _time(found.st_mtime_ns, modified_ns, now_ns, flags & SetTimes.MTIM, flags & SetTimes.MTIM_NOW)
    return accessed, modified


def _time(is_ns: int, given_ns: int, now_ns: int, is_given: int, is_now: int) -> int:
    if is_given and is_now:
        raise Refused(Errno.INVAL)
    return given_ns if is_given else now_ns if is_now else is_ns


# Directories.


def fd_prestat_get(guest: Guest, files: Files, fd: int, prestat_at: int) -> Errno:
    _preopened(files, fd)
    guest.write(prestat_at, PRESTAT.pack(0, len(ROOT_NAME)))
    return Errno.SUCCESS


def fd_prestat_dir_name(guest: Guest, files: Files, fd: int, name_at: int, length: int) -> Errno:
    _preopened(files, fd)
    if length < len(ROOT_NAME):
        return Errno.NAMETOOLONG
    guest.write(name_at, ROOT_NAME)
    return Errno.SUCCESS


def _preopened(files: Files, fd: int) -> None:
    if fd != ROOT_FD or files.directory(fd).path:
        raise Refused(Errno.BADF)


def fd_readdir(  # noqa: PLR0917 - preview 1 has it so
    guest: Guest, files: Files, fd: int, buffer_at: int, length: int, cookie: int, used_at: int
) -> Errno:
    directory = files.directory(fd, Rights.FD_READDIR)
    guest.check_range(buffer_at, length)
    guest.check_range(used_at, U32.size)
    if length > MAX_LISTING_BYTES:
        return Errno.INVAL
    listing = directory.listing
    if listing is None or not cookie:
        listing = files.begin_listing(directory)
    before = listing.looked_at
    try:
        entries = listing.answer(cookie, length)
    except ValueError:
        return Errno.INVAL
    finally:
        files.add_work((listing.looked_at - before) * NAME_FUEL)
    if entries is None:
        return Errno.AGAIN
    guest.charge(len(entries))
    guest.write(buffer_at, entries)
    guest.write(used_at, U32.pack(len(entries)))
    return Errno.SUCCESS


# What waits for the disk.

_disk: Final = ThreadPoolExecutor(2, thread_name_prefix="warren-fsync")


class Sync:
    """A file on its way to the disk, its guest suspended meanwhile. It has a descriptor of its own for that."""

    def __init__(self, guest: Guest, fd: int, sync: Callable[[int], None], result: Any) -> None:
        self._guest = guest
        self._fd = fd
        self._result = result
        self._begun = _disk.submit(_synced, fd, sync)
        self._done = asyncio.wrap_future(self._begun)

    def step(self) -> bool:
        if not self._done.done():
            return False
        self._result.of.i32 = self._done.result()
        self._guest.host_call = None
        return True

    async def wait(self, timeout_s: float) -> None:
        await asyncio.wait((self._done,), timeout=timeout_s)

    def drop(self) -> None:
        """What has begun is finished; there is no way to stop it."""
        if self._begun.cancel():
            os.close(self._fd)


def _synced(fd: int, sync: Callable[[int], None]) -> Errno:
    try:
        sync(fd)
    except OSError:
        return Errno.IO
    finally:
        os.close(fd)
    return Errno.SUCCESS


def begin_sync(guest: Guest, files: Files, fd: int, result: Any, *, data_only: bool) -> Sync:
    """What `fd_sync`, or `fd_datasync` if `data_only`, waits for."""
    opened = files.descriptor(fd, Rights.FD_DATASYNC if data_only else Rights.FD_SYNC)
    if isinstance(opened, OpenFile):
        own = os.dup(opened.fd)
    else:
        with files.at(opened, ".", follow=False) as place:
            own = os.open(place.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.parent)
    return Sync(guest, own, os.fdatasync if data_only else os.fsync, result)


_PROVIDED: Final = (
    fd_read, fd_pread, fd_write, fd_pwrite, fd_seek, fd_tell, fd_allocate, fd_filestat_set_size, fd_advise, fd_close,
    fd_renumber, fd_fdstat_get, fd_fdstat_set_flags, fd_fdstat_set_rights, fd_filestat_get, fd_filestat_set_times,
    fd_prestat_get, fd_prestat_dir_name, fd_readdir,
)  # fmt: skip

#: By their names.
FILE_CALLS: Final[Mapping[str, Call]] = {call.__name__: call for call in _PROVIDED}
