"""What the functions of WASI preview 1 do, each under its WASI name: guest, process and arguments to an errno.

What a guest passes arrives as unsigned numbers. A pointer outside its memory ends the run (`Guest.read` and `write`),
as it does everywhere in Warren; everything else that is wrong is answered. The bytes of a call are charged here, the
call itself in `wasi`. Here are the streams; files are in `wasi_files` and `wasi_paths`, and sockets there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from .callbacks import HOST_CALL_FUEL
from .errors import GuestExit, GuestFault
from .guest import Guest
from .wasi_abi import FDSTAT, FILESTAT, IOVEC, STDIN, U32, U64, Errno, Rights
from .wasi_poll import CLOCKS
from .wasi_process import Process

#: What one `fd_write` takes at most, in pieces and in bytes. It says how much that was, and a libc goes on with the
#: rest in another. Each piece takes the host 1 µs.
MAX_VECTORS: Final = 64
MAX_WRITE_BYTES: Final = 16 << 10

#: What one `fd_read` of stdin gives at most.
MAX_STDIN_BYTES: Final = 64 << 10

#: What one `random_get` gives at most; it takes some 2 ms.
MAX_RANDOM_BYTES: Final = 1 << 20

Call = Callable[..., Errno]


def args_get(guest: Guest, process: Process, pointers_at: int, text_at: int) -> Errno:
    return _write_strings(guest, process.arguments, pointers_at, text_at)


def args_sizes_get(guest: Guest, process: Process, count_at: int, size_at: int) -> Errno:
    return _write_sizes(guest, process.arguments, count_at, size_at)


def environ_get(guest: Guest, process: Process, pointers_at: int, text_at: int) -> Errno:
    return _write_strings(guest, process.environment, pointers_at, text_at)


def environ_sizes_get(guest: Guest, process: Process, count_at: int, size_at: int) -> Errno:
    return _write_sizes(guest, process.environment, count_at, size_at)


def _write_strings(guest: Guest, strings: tuple[bytes, ...], pointers_at: int, text_at: int) -> Errno:
    for index, string in enumerate(strings):
        guest.charge(len(string))
        guest.write(pointers_at + index * U32.size, U32.pack(text_at))
        guest.write(text_at, string + b"\0")
        text_at += len(string) + 1
    return Errno.SUCCESS


def _write_sizes(guest: Guest, strings: tuple[bytes, ...], count_at: int, size_at: int) -> Errno:
    guest.write(count_at, U32.pack(len(strings)))
    guest.write(size_at, U32.pack(sum(len(string) + 1 for string in strings)))
    return Errno.SUCCESS


def clock_res_get(guest: Guest, _process: Process, clock: int, resolution_at: int) -> Errno:
    if clock not in CLOCKS:
        return Errno.INVAL
    guest.write(resolution_at, U64.pack(1))
    return Errno.SUCCESS


def clock_time_get(guest: Guest, process: Process, clock: int, _precision_ns: int, time_at: int) -> Errno:
    known = CLOCKS.get(clock)
    if known is None:
        return Errno.INVAL
    guest.write(time_at, U64.pack(process.world.clock_ns(known)))
    return Errno.SUCCESS


def random_get(guest: Guest, process: Process, buffer_at: int, length: int) -> Errno:
    guest.check_range(buffer_at, length)
    if length > MAX_RANDOM_BYTES:
        return Errno.INVAL
    guest.charge(length)
    guest.write(buffer_at, process.world.random_bytes(length))
    return Errno.SUCCESS


def sched_yield(_guest: Guest, _process: Process) -> Errno:
    return Errno.SUCCESS


def proc_exit(_guest: Guest, _process: Process, code: int) -> Errno:
    raise GuestExit(code)


def proc_raise(_guest: Guest, _process: Process, signal: int) -> Errno:
    raise GuestFault("trap", f"the guest raised signal {signal}")


def fd_write(  # noqa: PLR0917 - preview 1 has it so
    guest: Guest, process: Process, fd: int, vectors_at: int, count: int, written_at: int
) -> Errno:
    if not process.is_output(fd):
        return Errno.BADF
    guest.check_range(written_at, U32.size)
    data = gathered(guest, vectors_at, count)
    # A line costs the host what a call of `log` does.
    guest.charge(len(data) + data.count(b"\n") * HOST_CALL_FUEL)
    process.write(fd, data)
    guest.write(written_at, U32.pack(len(data)))
    return Errno.SUCCESS


def gathered(guest: Guest, vectors_at: int, count: int) -> bytes:
    """The pieces as one, of as many bytes as one call takes."""
    count = min(count, MAX_VECTORS)
    guest.charge(count * IOVEC.size)
    pieces, room = [], MAX_WRITE_BYTES
    for pointer, length in IOVEC.iter_unpack(guest.read(vectors_at, count * IOVEC.size)):
        pieces.append(guest.read(pointer, min(length, room)))
        room -= len(pieces[-1])
    return b"".join(pieces)


def fd_read(  # noqa: PLR0917 - preview 1 has it so
    guest: Guest, process: Process, fd: int, vectors_at: int, count: int, read_at: int
) -> Errno:
    if fd != STDIN or not process.is_open(fd):
        return Errno.BADF
    command, done = process.command, 0
    if command is not None and command.unread_bytes:
        count = min(count, MAX_VECTORS)
        guest.charge(count * IOVEC.size)
        for pointer, length in IOVEC.iter_unpack(guest.read(vectors_at, count * IOVEC.size)):
            data = command.read(min(length, MAX_STDIN_BYTES - done))
            guest.write(pointer, data)
            done += len(data)
        guest.charge(done)
    guest.write(read_at, U32.pack(done))
    return Errno.SUCCESS


def fd_close(_guest: Guest, process: Process, fd: int) -> Errno:
    if not process.is_open(fd):
        return Errno.BADF
    process.close(fd)
    return Errno.SUCCESS


def fd_fdstat_get(guest: Guest, process: Process, fd: int, stat_at: int) -> Errno:
    if not process.is_open(fd):
        return Errno.BADF
    rights = Rights.FD_READ if fd == STDIN else Rights.FD_WRITE
    # A libc's `isatty` is true of a character device that cannot seek.
    guest.write(stat_at, FDSTAT.pack(process.file_type(fd), 0, rights, 0))
    return Errno.SUCCESS


def fd_fdstat_set_flags(_guest: Guest, process: Process, fd: int, _flags: int) -> Errno:
    # Nothing here ever blocks, so a stream is as good without flags as with them.
    return Errno.SUCCESS if process.is_open(fd) else Errno.BADF


def fd_filestat_get(guest: Guest, process: Process, fd: int, stat_at: int) -> Errno:
    if not process.is_open(fd):
        return Errno.BADF
    guest.write(stat_at, FILESTAT.pack(0, fd, process.file_type(fd), 1, 0, 0, 0, 0))
    return Errno.SUCCESS


def fd_seek(_guest: Guest, process: Process, fd: int, _offset: int, _whence: int, _position_at: int) -> Errno:
    return Errno.SPIPE if process.is_open(fd) else Errno.BADF


def fd_tell(_guest: Guest, process: Process, fd: int, _position_at: int) -> Errno:
    return Errno.SPIPE if process.is_open(fd) else Errno.BADF


def no_such_descriptor(_guest: Guest, _process: Process, *_arguments: int) -> Errno:
    """What a function answers that wants a file or a socket: whichever descriptor it was given is none."""
    return Errno.BADF


_PROVIDED: Final = (
    args_get, args_sizes_get, environ_get, environ_sizes_get, clock_res_get, clock_time_get, random_get, sched_yield,
    proc_exit, proc_raise, fd_write, fd_read, fd_close, fd_fdstat_get, fd_fdstat_set_flags, fd_filestat_get, fd_seek,
    fd_tell,
)  # fmt: skip

#: By their names.
CALLS: Final[Mapping[str, Call]] = {call.__name__: call for call in _PROVIDED}
