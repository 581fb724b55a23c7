"""What the functions of WASI preview 1 do with paths, each under its WASI name.

Each looks its path up from the root of the plugin's directory (`file_paths`), asks whether the grant has the canonical
path that this led to, and acts on the name in the directory that is then open. All of it is done while the ledger is
locked, so that no other guest changes what was found; somebody else may, and meets descriptors and `O_NOFOLLOW`.

Links are followed where they lie, as long as all they lead to is granted; no guest makes one. `path_symlink` answers
EPERM: what a link leads to is asked when it is used, but programs outside the sandbox that read the plugin's directory
would follow it anywhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Final

from .file_paths import MAX_PATH_BYTES, Place
from .file_quota import ENTRY_BYTES, Account, size_if_last
from .guest import Guest
from .plugin_folder import FilePower
from .wasi_abi import FILESTAT, SYMLINK_FOLLOW, U32, Errno, OpenFlags, Rights
from .wasi_descriptors import (
    DIRECTORY_RIGHTS,
    FILE_RIGHTS,
    READ_RIGHTS,
    WRITE_RIGHTS,
    Files,
    OpenDirectory,
    OpenFile,
    Refused,
    hold_regular,
    shown,
)
from .wasi_files import Call, check_flags, packed_stat, wanted_times

_OPEN: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_ALL_OPEN_FLAGS: Final = OpenFlags.CREAT | OpenFlags.DIRECTORY | OpenFlags.EXCL | OpenFlags.TRUNC

#: Nobody but who runs workers may read what plugins write.
_FILE_MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o700


def _text(guest: Guest, path_at: int, length: int) -> str:
    """The path that a guest gives: ENAMETOOLONG, EINVAL for a zero byte, EILSEQ where it is not UTF-8."""
    guest.check_range(path_at, length)
    if length > MAX_PATH_BYTES:
        raise Refused(Errno.NAMETOOLONG)
    guest.charge(length)
    path = guest.read(path_at, length)
    if b"\0" in path:
        raise Refused(Errno.INVAL)
    try:
        return path.decode()
    except UnicodeDecodeError:
        raise Refused(Errno.ILSEQ) from None


def path_open(  # noqa: PLR0917 - preview 1 has it so
    guest: Guest, files: Files, fd: int, look_up: int, path_at: int, length: int, flags: int, rights: int,
    inheriting: int, fd_flags: int, opened_at: int,
) -> Errno:  # fmt: skip
    directory = files.directory(fd, Rights.PATH_OPEN)
    guest.check_range(opened_at, U32.size)
    text = _text(guest, path_at, length)
    append = check_flags(fd_flags)
    _check_asked(directory, flags, rights)
    files.check_room(text)
    rights &= directory.inheriting
    must_be_new = flags & OpenFlags.CREAT and flags & OpenFlags.EXCL
    is_for_writing = rights & Rights.FD_WRITE or flags & (OpenFlags.CREAT | OpenFlags.TRUNC)
    follow = bool(look_up & SYMLINK_FOLLOW) and not must_be_new
    power: FilePower = "write_files" if is_for_writing else "read_files"
    with files.changing() as account, files.at(directory, text, follow=follow, power=power) as place:
        if place.found is not None and must_be_new:
            return Errno.EXIST
        opened: OpenFile | OpenDirectory
        if place.found is not None and stat.S_ISDIR(place.found.st_mode):
            if is_for_writing:
                return Errno.ISDIR
            opened = OpenDirectory(place.path, rights & DIRECTORY_RIGHTS, inheriting & directory.inheriting)
        else:
            opened = _open_file(files, account, place, flags, rights, append=append)
    guest.write(opened_at, U32.pack(files.add(opened)))
    return Errno.SUCCESS


def _check_asked(directory: OpenDirectory, flags: int, rights: int) -> None:
    """EINVAL for what makes no sense, ENOTCAPABLE for what the directory's descriptor is not for."""
    if flags & ~_ALL_OPEN_FLAGS or (flags & OpenFlags.CREAT and flags & OpenFlags.DIRECTORY):
        raise Refused(Errno.INVAL)
    if (
        rights & Rights.FD_WRITE & ~directory.inheriting
        or (flags & OpenFlags.CREAT and not directory.rights & Rights.PATH_CREATE_FILE)
        or (flags & OpenFlags.TRUNC and not directory.rights & Rights.PATH_FILESTAT_SET_SIZE)
    ):
        raise Refused(Errno.NOTCAPABLE)


def _open_file(files: Files, account: Account, place: Place, flags: int, rights: int, *, append: bool) -> OpenFile:
    writes = bool(rights & Rights.FD_WRITE)
    truncates = bool(flags & OpenFlags.TRUNC)
    is_new = place.found is None
    if is_new:
        if not flags & OpenFlags.CREAT:
            raise Refused(Errno.NOENT)
        if place.as_directory:
            raise Refused(Errno.ISDIR)
    else:
        _check_file(files, place, flags)
    if writes or truncates or is_new:
        files.check_write(place.path)
    # A descriptor that is for neither can tell of the file, which takes the permission to read it.
    reads = bool(rights & Rights.FD_READ) or not (writes or truncates or is_new)
    if reads:
        files.check_read(place.path)
    access = (os.O_RDWR if reads else os.O_WRONLY) if writes or truncates or is_new else os.O_RDONLY
    if is_new:
        account.check(ENTRY_BYTES)
        fd = os.open(place.name, access | _OPEN | os.O_CREAT | os.O_EXCL, _FILE_MODE, dir_fd=place.parent)
        account.spend(ENTRY_BYTES)
    else:
        fd = os.open(place.name, access | _OPEN, dir_fd=place.parent)
    try:
        size = hold_regular(fd)
        if truncates and size:
            os.ftruncate(fd, 0)
            account.spend(-size)
    except BaseException:
        os.close(fd)
        raise
    allowed = FILE_RIGHTS | (READ_RIGHTS if reads else 0) | (WRITE_RIGHTS if writes else 0)
    return OpenFile(fd, place.path, rights & allowed, append=append)


def _check_file(files: Files, place: Place, flags: int) -> None:
    mode = place.there.st_mode
    if stat.S_ISLNK(mode):
        raise Refused(Errno.LOOP)
    if flags & OpenFlags.DIRECTORY:
        raise Refused(Errno.NOTDIR)
    if not stat.S_ISREG(mode):
        raise files.refusal("read_files", shown(place.path), "it is a device, a pipe or a socket", Errno.ACCES)


def path_filestat_get(  # noqa: PLR0917 - preview 1 has it so
    guest: Guest, files: Files, fd: int, look_up: int, path_at: int, length: int, stat_at: int
) -> Errno:
    directory = files.directory(fd, Rights.PATH_FILESTAT_GET)
    guest.check_range(stat_at, FILESTAT.size)
    with files.at(directory, _text(guest, path_at, length), follow=bool(look_up & SYMLINK_FOLLOW)) as place:
        files.check_see(place.path, place.there)
        guest.write(stat_at, packed_stat(place.there))
    return Errno.SUCCESS


def path_filestat_set_times(  # noqa: PLR0917 - preview 1 has it so
    guest: Guest, files: Files, fd: int, look_up: int, path_at: int, length: int, accessed_ns: int, modified_ns: int,
    flags: int,
) -> Errno:  # fmt: skip
    directory = files.directory(fd, Rights.PATH_FILESTAT_SET_TIMES)
    text, follow = _text(guest, path_at, length), bool(look_up & SYMLINK_FOLLOW)
    with files.at(directory, text, follow=follow, power="write_files") as place:
        files.check_write(place.path)
        times = wanted_times(place.there, accessed_ns, modified_ns, flags)
        os.utime(place.name, ns=times, dir_fd=place.parent, follow_symlinks=False)
    return Errno.SUCCESS


def path_create_directory(guest: Guest, files: Files, fd: int, path_at: int, length: int) -> Errno:
    directory = files.directory(fd, Rights.PATH_CREATE_DIRECTORY)
    text = _text(guest, path_at, length)
    with files.changing() as account, files.at(directory, text, follow=False, power="write_files") as place:
        files.check_write_directory(place.path)
        if place.found is not None:
            return Errno.EXIST
        account.check(ENTRY_BYTES)
        os.mkdir(place.name, _DIRECTORY_MODE, dir_fd=place.parent)
        account.spend(ENTRY_BYTES)
    return Errno.SUCCESS


def path_remove_directory(guest: Guest, files: Files, fd: int, path_at: int, length: int) -> Errno:
    directory = files.directory(fd, Rights.PATH_REMOVE_DIRECTORY)
    text = _text(guest, path_at, length)
    with files.changing() as account, files.at(directory, text, follow=False, power="write_files") as place:
        files.check_write_directory(place.path)
        if not stat.S_ISDIR(place.there.st_mode):
            return Errno.NOTDIR
        if not place.path:
            return Errno.BUSY
        os.rmdir(place.name, dir_fd=place.parent)
        account.spend(-ENTRY_BYTES)
    return Errno.SUCCESS


def path_unlink_file(guest: Guest, files: Files, fd: int, path_at: int, length: int) -> Errno:
    directory = files.directory(fd, Rights.PATH_UNLINK_FILE)
    text = _text(guest, path_at, length)
    with files.changing() as account, files.at(directory, text, follow=False, power="write_files") as place:
        files.check_write(place.path)
        if stat.S_ISDIR(place.there.st_mode):
            return Errno.ISDIR
        size = size_if_last(place.parent, place.name, place.there)
        os.unlink(place.name, dir_fd=place.parent)
        account.spend(-ENTRY_BYTES - size)
    return Errno.SUCCESS


def path_rename(  # noqa: PLR0917 - preview 1 has it so
    guest: Guest, files: Files, fd: int, path_at: int, length: int, new_fd: int, new_path_at: int, new_length: int
) -> Errno:
    directory = files.directory(fd, Rights.PATH_RENAME_SOURCE)
    new_directory = files.directory(new_fd, Rights.PATH_RENAME_TARGET)
    text, new_text = _text(guest, path_at, length), _text(guest, new_path_at, new_length)
    with (
        files.changing() as account,
        files.at(directory, text, follow=False, power="write_files") as old,
        files.at(new_directory, new_text, follow=False, power="write_files") as new,
    ):
        is_directory = stat.S_ISDIR(old.there.st_mode)
        files.check_move(old.path, new.path, is_directory=is_directory)
        if not (old.path and new.path):
            return Errno.BUSY
        if new.as_directory and not is_directory:
            return Errno.NOTDIR
        given_back = 0
        if new.found is not None and not os.path.samestat(new.found, old.there):
            given_back = ENTRY_BYTES + size_if_last(new.parent, new.name, new.found)
        os.rename(old.name, new.name, src_dir_fd=old.parent, dst_dir_fd=new.parent)
        account.spend(-given_back)
    return Errno.SUCCESS


def path_link(  # noqa: PLR0917 - preview 1 has it so
    guest: Guest, files: Files, fd: int, look_up: int, path_at: int, length: int, new_fd: int, new_path_at: int,
    new_length: int,
) -> Errno:  # fmt: skip
    directory = files.directory(fd, Rights.PATH_LINK_SOURCE)
    new_directory = files.directory(new_fd, Rights.PATH_LINK_TARGET)
    text, new_text = _text(guest, path_at, length), _text(guest, new_path_at, new_length)
    with (
        files.changing() as account,
        files.at(directory, text, follow=bool(look_up & SYMLINK_FOLLOW), power="write_files") as old,
        files.at(new_directory, new_text, follow=False, power="write_files") as new,
    ):
        if not stat.S_ISREG(old.there.st_mode):
            return Errno.PERM
        files.check_move(old.path, new.path, is_directory=False)
        if new.found is not None:
            return Errno.EXIST
        if new.as_directory:
            return Errno.NOENT
        account.check(ENTRY_BYTES)
        os.link(old.name, new.name, src_dir_fd=old.parent, dst_dir_fd=new.parent, follow_symlinks=False)
        account.spend(ENTRY_BYTES)
    return Errno.SUCCESS


def path_symlink(  # noqa: PLR0917 - preview 1 has it so
    guest: Guest, files: Files, target_at: int, target_length: int, fd: int, path_at: int, length: int
) -> Errno:
    files.directory(fd, Rights.PATH_SYMLINK)
    _text(guest, target_at, target_length)
    text = _text(guest, path_at, length)
    raise files.refusal("write_files", text, "guests make no symbolic links", Errno.PERM)


def path_readlink(  # noqa: PLR0917 - preview 1 has it so
    guest: Guest, files: Files, fd: int, path_at: int, length: int, buffer_at: int, buffer_length: int, used_at: int
) -> Errno:
    directory = files.directory(fd, Rights.PATH_READLINK)
    guest.check_range(buffer_at, buffer_length)
    guest.check_range(used_at, U32.size)
    with files.at(directory, _text(guest, path_at, length), follow=False) as place:
        if not stat.S_ISLNK(place.there.st_mode):
            return Errno.INVAL
        files.check_read(place.path)
        target = os.readlink(place.name, dir_fd=place.parent)
    if target.startswith("/"):
        raise files.refusal("read_files", shown(place.path), "the link names a place on the host", Errno.PERM)
    cut = target.encode()[:buffer_length]
    guest.charge(len(cut))
    guest.write(buffer_at, cut)
    guest.write(used_at, U32.pack(len(cut)))
    return Errno.SUCCESS


_PROVIDED: Final = (
    path_open, path_filestat_get, path_filestat_set_times, path_create_directory, path_remove_directory,
    path_unlink_file, path_rename, path_link, path_symlink, path_readlink,
)  # fmt: skip

#: By their names.
PATH_CALLS: Final[Mapping[str, Call]] = {call.__name__: call for call in _PROVIDED}
