"""WASI preview 1 for guests that need a libc: clocks, random numbers, arguments, environment, output, exit and sleep.

All 46 functions are there, so that what links them loads. Here they become wasmtime's callbacks; see `host_imports` for
why nothing may leave one. What they do stands in `wasi_calls`, and in `wasi_poll` for the one that waits.

Rejected: wasmtime's own WASI. It sleeps through fuel and deadline, has no caps on what a guest writes (100,000 units
of fuel pushed 16.7 GB through stdout), and aborts the process where it was not set up for a store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import wasmtime
from wasmtime import _bindings as native

from . import bindings
from .bindings import NO_FINALIZER
from .errors import GuestFault
from .guest import Guest
from .host_imports import NEVER, STEP, blame, calling
from .module import FuncType
from .wasi_abi import SIGNATURES, WASI_MODULE, Errno
from .wasi_calls import CALLS, Call, no_such_descriptor
from .wasi_poll import Poll, begin_poll

_POLL: Final = "poll_oneoff"

#: The kind of value that an errno is.
_I32: Final = 0


def define_wasi_imports(linker: wasmtime.Linker) -> None:
    """Give the linker all of preview 1, once per engine."""
    types = {"i32": wasmtime.ValType.i32, "i64": wasmtime.ValType.i64}
    for name, signature in SIGNATURES.items():
        params, results = ([types[each]() for each in side] for side in (signature.params, signature.results))
        given = wasmtime.FuncType(params, results)
        bindings.define_function(linker, WASI_MODULE, name, given, _CALLBACKS[name], suspends=name == _POLL)


def _callback(call: Call, signature: FuncType) -> Callable[..., int]:
    """`call` as wasmtime calls it: it answers, or it traps."""
    unsigned = _reader(signature)

    def callback(_environment: Any, caller: Any, arguments: Any, _count: int, results: Any, _results: int) -> int:
        guest = None
        try:
            guest = calling(caller)
            errno = call(guest, guest.host.process, *unsigned(arguments))
            results[0].kind = _I32
            results[0].of.i32 = errno
        except BaseException as error:  # noqa: BLE001 - nothing may leave a callback
            blame(guest, error)
            return int(bindings.trap_new(b"wasi", 4))
        return 0

    return callback


def _reader(signature: FuncType) -> Callable[[Any], tuple[int, ...]]:
    """How the arguments of such a function are read, as unsigned numbers."""
    masks = [(index, each, (1 << int(each[1:])) - 1) for index, each in enumerate(signature.params)]

    def unsigned(arguments: Any) -> tuple[int, ...]:
        return tuple(getattr(arguments[index].of, each) & mask for index, each, mask in masks)

    return unsigned


def _poll(_environment: Any, caller: Any, arguments: Any, _count: int, results: Any, *rest: Any) -> None:
    guest = None
    continuation = rest[-1][0]
    continuation.finalizer = NO_FINALIZER
    continuation.callback = NEVER
    continuation.env = None
    try:
        guest = calling(caller)
        begun = _begun(guest, arguments, results[0])
        if isinstance(begun, Errno):
            results[0].of.i32 = begun
            continuation.callback = _READY
        else:
            guest.host_call = begun
            continuation.env = guest.number
            continuation.callback = STEP
    except BaseException as error:  # noqa: BLE001 - nothing may leave a callback
        blame(guest, error)


def _begun(guest: Guest, arguments: Any, result: Any) -> Poll | Errno:
    if guest.host_call is not None:
        raise GuestFault("trap", "the guest waited from within its `allocate`, in the middle of a host call")
    result.kind = _I32
    return begin_poll(guest, guest.host.process, _POLL_ARGUMENTS(arguments), result)


def _ready(_number: int) -> bool:
    return True


_POLL_ARGUMENTS: Final = _reader(SIGNATURES[_POLL])
_READY: Final = native.wasmtime_func_async_continuation_callback_t(_ready)
_CALLBACKS: Final = {
    name: native.wasmtime_func_callback_t(_callback(CALLS.get(name, no_such_descriptor), signature))
    for name, signature in SIGNATURES.items()
    if name != _POLL
} | {_POLL: native.wasmtime_func_async_callback_t(_poll)}
