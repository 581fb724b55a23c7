"""WASI preview 1 as data: the signatures of its functions, and the numbers and layouts that they speak in.

Names and layouts are those of `wasi_snapshot_preview1.witx` (WebAssembly/WASI, legacy/preview1). Only what Warren
answers with is named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from struct import Struct
from typing import Final

from .module import FuncType

WASI_MODULE: Final = "wasi_snapshot_preview1"


class Errno(IntEnum):
    """What a function answers."""

    SUCCESS = 0
    ACCES = 2
    AGAIN = 6
    BADF = 8
    BUSY = 10
    DQUOT = 19
    EXIST = 20
    FBIG = 22
    ILSEQ = 25
    INVAL = 28
    IO = 29
    ISDIR = 31
    LOOP = 32
    MFILE = 33
    MLINK = 34
    NAMETOOLONG = 37
    NFILE = 41
    NOENT = 44
    NOMEM = 48
    NOSPC = 51
    NOTDIR = 54
    NOTEMPTY = 55
    NOTSUP = 58
    PERM = 63
    ROFS = 69
    SPIPE = 70
    TXTBSY = 74
    XDEV = 75
    NOTCAPABLE = 76


class Clock(IntEnum):
    """Which clock is meant."""

    REALTIME = 0
    MONOTONIC = 1


class EventType(IntEnum):
    """What a subscription waits for."""

    CLOCK = 0
    FD_READ = 1
    FD_WRITE = 2


class Rights(IntEnum):
    """What a descriptor may be used for; bits."""

    FD_DATASYNC = 1 << 0
    FD_READ = 1 << 1
    FD_SEEK = 1 << 2
    FD_FDSTAT_SET_FLAGS = 1 << 3
    FD_SYNC = 1 << 4
    FD_TELL = 1 << 5
    FD_WRITE = 1 << 6
    FD_ADVISE = 1 << 7
    FD_ALLOCATE = 1 << 8
    PATH_CREATE_DIRECTORY = 1 << 9
    PATH_CREATE_FILE = 1 << 10
    PATH_LINK_SOURCE = 1 << 11
    PATH_LINK_TARGET = 1 << 12
    PATH_OPEN = 1 << 13
    FD_READDIR = 1 << 14
    PATH_READLINK = 1 << 15
    PATH_RENAME_SOURCE = 1 << 16
    PATH_RENAME_TARGET = 1 << 17
    PATH_FILESTAT_GET = 1 << 18
    PATH_FILESTAT_SET_SIZE = 1 << 19
    PATH_FILESTAT_SET_TIMES = 1 << 20
    FD_FILESTAT_GET = 1 << 21
    FD_FILESTAT_SET_SIZE = 1 << 22
    FD_FILESTAT_SET_TIMES = 1 << 23
    PATH_SYMLINK = 1 << 24
    PATH_REMOVE_DIRECTORY = 1 << 25
    PATH_UNLINK_FILE = 1 << 26
    POLL_FD_READWRITE = 1 << 27


class FileType(IntEnum):
    """What a name or a descriptor stands for."""

    UNKNOWN = 0
    CHARACTER_DEVICE = 2
    DIRECTORY = 3
    REGULAR_FILE = 4
    SYMBOLIC_LINK = 7


class OpenFlags(IntEnum):
    """How a file is opened; bits."""

    CREAT = 1 << 0
    DIRECTORY = 1 << 1
    EXCL = 1 << 2
    TRUNC = 1 << 3


class FdFlags(IntEnum):
    """What an open file does at each use; bits."""

    APPEND = 1 << 0
    DSYNC = 1 << 1
    NONBLOCK = 1 << 2
    RSYNC = 1 << 3
    SYNC = 1 << 4


class SetTimes(IntEnum):
    """Which times are set; bits."""

    ATIM = 1 << 0
    ATIM_NOW = 1 << 1
    MTIM = 1 << 2
    MTIM_NOW = 1 << 3


class Whence(IntEnum):
    """What an offset counts from."""

    SET = 0
    CUR = 1
    END = 2


STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2

#: Of a clock's subscription: the timeout is a time and not a delay.
ABSOLUTE_TIME: Final = 1

#: Of a read's event: there is nothing more to come.
HANGUP: Final = 1

#: Of a look-up: the last name of the path is looked through if it is a link.
SYMLINK_FOLLOW: Final = 1

U32: Final = Struct("<I")
U64: Final = Struct("<Q")
#: Where a piece of data lies, and its length.
IOVEC: Final = Struct("<II")
#: File type, flags, rights, rights that would be inherited.
FDSTAT: Final = Struct("<B1xH4xQQ")
#: Device, inode, file type, links, size, and three times.
FILESTAT: Final = Struct("<QQB7xQQQQQ")
#: What kind of directory was opened beforehand (always 0), and the length of its name.
PRESTAT: Final = Struct("<B3xI")
#: The cookie of the next entry, inode, length of the name, which follows, and file type.
DIRENT: Final = Struct("<QQIB3x")
#: User data, event type, then of a clock: which, timeout, precision, flags; of a descriptor: which.
SUBSCRIPTION: Final = Struct("<QB7xI4xQQH6x")
#: User data, errno, event type, then of a descriptor: bytes at hand, flags.
EVENT: Final = Struct("<QHB5xQH6x")

#: The parameters of each function that answers with an errno: `i` is an i32, `I` an i64.
_PARAMETERS: Final = {
    "args_get": "ii",
    "args_sizes_get": "ii",
    "clock_res_get": "ii",
    "clock_time_get": "iIi",
    "environ_get": "ii",
    "environ_sizes_get": "ii",
    "fd_advise": "iIIi",
    "fd_allocate": "iII",
    "fd_close": "i",
    "fd_datasync": "i",
    "fd_fdstat_get": "ii",
    "fd_fdstat_set_flags": "ii",
    "fd_fdstat_set_rights": "iII",
    "fd_filestat_get": "ii",
    "fd_filestat_set_size": "iI",
    "fd_filestat_set_times": "iIIi",
    "fd_pread": "iiiIi",
    "fd_prestat_dir_name": "iii",
    "fd_prestat_get": "ii",
    "fd_pwrite": "iiiIi",
    "fd_read": "iiii",
    "fd_readdir": "iiiIi",
    "fd_renumber": "ii",
    "fd_seek": "iIii",
    "fd_sync": "i",
    "fd_tell": "ii",
    "fd_write": "iiii",
    "path_create_directory": "iii",
    "path_filestat_get": "iiiii",
    "path_filestat_set_times": "iiiiIIi",
    "path_link": "iiiiiii",
    "path_open": "iiiiiIIii",
    "path_readlink": "iiiiii",
    "path_remove_directory": "iii",
    "path_rename": "iiiiii",
    "path_symlink": "iiiii",
    "path_unlink_file": "iii",
    "poll_oneoff": "iiii",
    "proc_raise": "i",
    "random_get": "ii",
    "sched_yield": "",
    "sock_accept": "iii",
    "sock_recv": "iiiiii",
    "sock_send": "iiiii",
    "sock_shutdown": "ii",
}
_TYPES: Final = {"i": "i32", "I": "i64"}

#: Every function of preview 1.
SIGNATURES: Final[Mapping[str, FuncType]] = {
    "proc_exit": FuncType(("i32",), ()),
    **{name: FuncType(tuple(_TYPES[each] for each in each_of), ("i32",)) for name, each_of in _PARAMETERS.items()},
}

#: The same as a module's check wants it.
WASI_IMPORTS: Final[Mapping[tuple[str, str], FuncType]] = {
    (WASI_MODULE, name): signature for name, signature in SIGNATURES.items()
}
