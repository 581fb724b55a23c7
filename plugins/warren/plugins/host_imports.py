"""The functions a module may import: `warren_v1.log` and `warren_v1.host_call`, as wasmtime calls them.

These run on wasmtime's stack, inside a poll. An exception that left one of them would be lost or abort the process,
so each catches everything, leaves the fault on its guest, and returns: `log` with a trap, `host_call` with a
continuation that never becomes ready, so that the guest is dropped where it stands.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import wasmtime
from wasmtime import _bindings as native

from . import bindings
from .errors import GuestFault
from .guest import Guest, HostCallInFlight, guests
from .module import FuncType

#: Fuel for a host call besides what its bytes cost; one takes the host about as long as this much guest code.
HOST_CALL_FUEL: Final = 1_000

IMPORT_MODULE: Final = "warren_v1"

#: What a module may import, as its check wants it.
IMPORTS: Final = {
    (IMPORT_MODULE, "log"): FuncType(("i32", "i32", "i32"), ()),
    (IMPORT_MODULE, "host_call"): FuncType(("i32", "i32", "i32", "i32"), ("i64",)),
}

_NO_FINALIZER: Final = ctypes.cast(None, ctypes.CFUNCTYPE(None, ctypes.c_void_p))


def define_host_imports(linker: wasmtime.Linker) -> None:
    """Give the linker the two functions, once per engine."""
    i32, i64 = wasmtime.ValType.i32(), wasmtime.ValType.i64()
    log, call = wasmtime.FuncType([i32] * 3, []), wasmtime.FuncType([i32] * 4, [i64])
    bindings.define_function(linker, IMPORT_MODULE, "log", log, _log, suspends=False)
    bindings.define_function(linker, IMPORT_MODULE, "host_call", call, _host_call, suspends=True)


def _calling(caller: Any) -> Guest:
    guest = guests[bindings.context_data(bindings.caller_context(caller))]
    guest.enter_host_call(caller)
    return guest


def _read(guest: Guest, arguments: Any, at: int) -> bytes:
    """The bytes of the (pointer, length) pair that stands at index `at`."""
    pointer, length = arguments[at].of.i32 & 0xFFFF_FFFF, arguments[at + 1].of.i32 & 0xFFFF_FFFF
    guest.charge(length)
    return guest.read(pointer, length)


@native.wasmtime_func_callback_t
def _log(
    environment: Any, caller: Any, arguments: Any, argument_count: int, results: Any, result_count: int
) -> int:
    guest = None
    try:
        guest = _calling(bindings.address(caller))
        guest.charge(HOST_CALL_FUEL)
        guest.host.log(arguments[0].of.i32, _read(guest, arguments, 1))
    except BaseException as error:  # noqa: BLE001 - nothing may leave a callback
        _blame(guest, error)
        return int(bindings.trap_new(b"log", 3))
    return 0


@native.wasmtime_func_async_callback_t
def _host_call(
    environment: Any,
    caller: Any,
    arguments: Any,
    argument_count: int,
    results: Any,
    result_count: int,
    trap: Any,
    continuation: Any,
) -> None:
    guest = None
    continuation[0].finalizer = _NO_FINALIZER
    continuation[0].callback = _never
    continuation[0].env = None
    try:
        guest = _calling(bindings.address(caller))
        if guest.host_call is not None:
            raise GuestFault("trap", "the guest made a host call from within its `allocate`")
        guest.charge(HOST_CALL_FUEL)
        results[0].kind = _I64
        answer = guest.host.call(_read(guest, arguments, 0), _read(guest, arguments, 2))
        guest.host_call = HostCallInFlight(guest, answer, results[0])
        continuation[0].env = guest.number
        continuation[0].callback = _step
    except BaseException as error:  # noqa: BLE001 - nothing may leave a callback
        _blame(guest, error)


@native.wasmtime_func_async_continuation_callback_t
def _step(number: int) -> bool:
    guest = None
    try:
        guest = guests[number]
        return guest.host_call is not None and guest.fault is None and guest.host_call.step()
    except BaseException as error:  # noqa: BLE001 - nothing may leave a callback
        _blame(guest, error)
        return False


@native.wasmtime_func_async_continuation_callback_t
def _never(number: int) -> bool:
    return False


def _blame(guest: Guest | None, error: BaseException) -> None:
    if guest is not None and guest.fault is None:
        guest.fault = error if isinstance(error, GuestFault) else _host_fault(error)


def _host_fault(error: BaseException) -> GuestFault:
    fault = GuestFault("unavailable", f"the host failed in the middle of a run: {type(error).__name__}: {error}")
    fault.__cause__ = error
    return fault


_I64: Final = 1
