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
    BADF = 8
    INVAL = 28
    SPIPE = 70


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

    FD_READ = 1 << 1
    FD_WRITE = 1 << 6


STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2

#: The type of file that makes a libc's `isatty` true, as long as the file cannot seek either.
CHARACTER_DEVICE: Final = 2

#: Of a clock's subscription: the timeout is a time and not a delay.
ABSOLUTE_TIME: Final = 1

#: Of a read's event: there is nothing more to come.
HANGUP: Final = 1

U32: Final = Struct("<I")
U64: Final = Struct("<Q")
#: Where a piece of data lies, and its length.
IOVEC: Final = Struct("<II")
#: File type, flags, rights, rights that would be inherited.
FDSTAT: Final = Struct("<B1xH4xQQ")
#: Device, inode, file type, links, size, and three times.
FILESTAT: Final = Struct("<QQB7xQQQQQ")
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
