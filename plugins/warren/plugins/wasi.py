"""WASI preview 1 for guests that need a libc: clocks, random numbers, arguments, environment, output, exit and sleep.

All 46 functions are there, so that what links them loads. Here they become wasmtime's callbacks. What they do stands in
`wasi_calls`, and in `wasi_poll` for the one that waits.

Rejected: wasmtime's own WASI. It sleeps through fuel and deadline, has no caps on what a guest writes (100,000 units
of fuel pushed 16.7 GB through stdout), and aborts the process where it was not set up for a store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import wasmtime

from . import bindings
from .callbacks import answering, suspending
from .guest import Guest
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


def _poll(guest: Guest, arguments: Any, result: Any) -> Poll | None:
    result.kind = _I32
    begun = begin_poll(guest, guest.host.process, _POLL_ARGUMENTS(arguments), result)
    if isinstance(begun, Errno):
        result.of.i32 = begun
        return None
    return begun


_POLL_ARGUMENTS: Final = _reader(SIGNATURES[_POLL])
_CALLBACKS: Final = {
    name: _answering(CALLS.get(name, no_such_descriptor), signature)
    for name, signature in SIGNATURES.items()
    if name != _POLL
} | {_POLL: suspending(_poll)}
