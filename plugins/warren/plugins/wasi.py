"""WASI preview 1 for guests that need a libc: clocks, random numbers, arguments, environment, output, exit and sleep.

All 46 functions are there, so that what links them loads. Here they become wasmtime's callbacks. What they do stands in
`wasi_calls` for streams and all else that every guest has, in `wasi_files` and `wasi_paths` for files, and in
`wasi_poll` for the one that sleeps. Sockets there are none.

Rejected: wasmtime's own WASI. It sleeps through fuel and deadline, has no caps on what a guest writes (100,000 units
of fuel pushed 16.7 GB through stdout), and aborts the process where it was not set up for a store.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import wasmtime

from . import bindings
from .callbacks import answering, suspending
from .guest import Guest, Suspension
from .module import FuncType
from .wasi_abi import SIGNATURES, WASI_MODULE, Errno
from .wasi_calls import CALLS, Call, no_such_descriptor
from .wasi_descriptors import Files, Refused
from .wasi_files import FILE_CALLS, begin_sync
from .wasi_paths import PATH_CALLS
from .wasi_poll import begin_poll
from .wasi_process import Process

#: What the host answers when the operating system does not do something; what is not here is EIO.
_ERRNOS: Final[Mapping[int | None, Errno]] = {
    errno.EACCES: Errno.ACCES,
    errno.EAGAIN: Errno.AGAIN,
    errno.EBUSY: Errno.BUSY,
    errno.EDQUOT: Errno.DQUOT,
    errno.EEXIST: Errno.EXIST,
    errno.EFBIG: Errno.FBIG,
    errno.EINVAL: Errno.INVAL,
    errno.EISDIR: Errno.ISDIR,
    errno.ELOOP: Errno.LOOP,
    errno.EMFILE: Errno.NFILE,  # it is not this guest that has too many open
    errno.EMLINK: Errno.MLINK,
    errno.ENAMETOOLONG: Errno.NAMETOOLONG,
    errno.ENFILE: Errno.NFILE,
    errno.ENOENT: Errno.NOENT,
    errno.ENOMEM: Errno.NOMEM,
    errno.ENOSPC: Errno.NOSPC,
    errno.ENOTDIR: Errno.NOTDIR,
    errno.ENOTEMPTY: Errno.NOTEMPTY,
    errno.EPERM: Errno.PERM,
    errno.EROFS: Errno.ROFS,
    errno.ETXTBSY: Errno.TXTBSY,
    errno.EXDEV: Errno.XDEV,
}

#: The kind of value that an errno is.
_I32: Final = 0


def define_wasi_imports(linker: wasmtime.Linker) -> None:
    """Give the linker all of preview 1, once per engine."""
    types = {"i32": wasmtime.ValType.i32, "i64": wasmtime.ValType.i64}
    for name, signature in SIGNATURES.items():
        params, results = ([types[each]() for each in side] for side in (signature.params, signature.results))
        given = wasmtime.FuncType(params, results)
        bindings.define_function(linker, WASI_MODULE, name, given, _CALLBACKS[name], suspends=name in _WAITING)


def _answering(call: Call, signature: FuncType) -> Any:
    """`call` as wasmtime calls it."""
    unsigned = _reader(signature)

    def answer(guest: Guest, arguments: Any, results: Any) -> None:
        errno = call(guest, guest.host.process, *unsigned(arguments))
        results[0].kind = _I32
        results[0].of.i32 = errno

    return answering(answer)


def _reader(signature: FuncType) -> Callable[[Any], tuple[int, ...]]:
    """How the arguments of such a function are read, as unsigned numbers."""
    masks = [(index, each, (1 << int(each[1:])) - 1) for index, each in enumerate(signature.params)]

    def unsigned(arguments: Any) -> tuple[int, ...]:
        return tuple(getattr(arguments[index].of, each) & mask for index, each, mask in masks)

    return unsigned


def _suspending(begin: Callable[..., Any], signature: FuncType) -> Any:
    """The same for a function that gives an errno, or what its guest then waits in."""
    unsigned = _reader(signature)

    def begin_waiting(guest: Guest, arguments: Any, result: Any) -> Suspension | None:
        result.kind = _I32
        begun = begin(guest, guest.host.process, unsigned(arguments), result)
        if isinstance(begun, Errno):
            result.of.i32 = begun
            return None
        waiting: Suspension = begun
        return waiting

    return suspending(begin_waiting)


def _with_files(call: Call) -> Call:
    """`call`, which is given a run's files and the arguments, as others are; what it cannot do is answered."""

    def with_files(guest: Guest, process: Process, *arguments: int) -> Errno:
        files = process.files
        return Errno.BADF if files is None else _answered(guest, files, partial(call, guest, files, *arguments))

    return with_files


def _answered(guest: Guest, files: Files, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Refused as refused:
        return refused.answer
    except UnicodeError:  # the host's names are in another encoding
        return Errno.ILSEQ
    except OSError as error:
        return _ERRNOS.get(error.errno, Errno.IO)
    finally:
        guest.charge(files.take_work())


def _by_descriptor(stream_call: Call, file_call: Call) -> Call:
    """Which of the two it is, the first argument tells."""

    def either(guest: Guest, process: Process, fd: int, *arguments: int) -> Errno:
        call = stream_call if process.is_stream(fd) else file_call
        return call(guest, process, fd, *arguments)

    return either


def _begin_sync(
    guest: Guest, process: Process, arguments: tuple[int, ...], result: Any, *, data_only: bool
) -> Suspension | Errno:
    files = process.files
    if files is None or process.is_stream(arguments[0]):
        return Errno.BADF
    begun: Suspension | Errno = _answered(
        guest, files, partial(begin_sync, guest, files, arguments[0], result, data_only=data_only)
    )
    return begun


_CALLS: Final[Mapping[str, Call]] = {
    **CALLS,
    **{name: _with_files(call) for name, call in PATH_CALLS.items()},
    **{
        name: _by_descriptor(CALLS.get(name, no_such_descriptor), _with_files(call))
        for name, call in FILE_CALLS.items()
    },
}

#: Those that may suspend their guest, and how they begin.
_WAITING: Final[Mapping[str, Callable[..., Any]]] = {
    "poll_oneoff": begin_poll,
    "fd_sync": partial(_begin_sync, data_only=False),
    "fd_datasync": partial(_begin_sync, data_only=True),
}

_CALLBACKS: Final = {
    name: _suspending(_WAITING[name], signature)
    if name in _WAITING
    else _answering(_CALLS.get(name, no_such_descriptor), signature)
    for name, signature in SIGNATURES.items()
}
