"""The functions a module may import: `warren_v1.log` and `warren_v1.host_call`, as wasmtime calls them.

These run on wasmtime's stack, inside a poll. An exception that left one of them would be lost or abort the process,
so each catches everything, leaves the fault on its guest, and returns: `log` with a trap, `host_call` with a
continuation that never becomes ready, so that the guest is dropped where it stands.
"""

from __future__ import annotations

from typing import Any, Final

import wasmtime
from wasmtime import _bindings as native

from . import bindings
from .bindings import NO_FINALIZER
from .errors import GuestFault
from .guest import Guest, HostCallInFlight, guests
from .module import FuncType

#: Fuel for a host call besides what its bytes cost.
HOST_CALL_FUEL: Final = 1_000

#: What a host call takes of a slice besides its fuel: it takes the host some 20 µs, as long as this much guest code,
#: and the event loop waits for the slice's end.
HOST_CALL_SLICE_FUEL: Final = 20_000

#: What a guest can hand over in one piece: arguments become Python objects, which take fifty times the space.
MAX_ARGUMENT_BYTES: Final = 1 << 20

IMPORT_MODULE: Final = "warren_v1"

#: What a module may import, as its check wants it.
IMPORTS: Final = {
    (IMPORT_MODULE, "log"): FuncType(("i32", "i32", "i32"), ()),
    (IMPORT_MODULE, "host_call"): FuncType(("i32", "i32", "i32", "i32"), ("i64",)),
}

_I64: Final = 1


def define_host_imports(linker: wasmtime.Linker) -> None:
    """Give the linker the two functions, once per engine."""
    i32, i64 = wasmtime.ValType.i32(), wasmtime.ValType.i64()
    log, call = wasmtime.FuncType([i32] * 3, []), wasmtime.FuncType([i32] * 4, [i64])
    bindings.define_function(linker, IMPORT_MODULE, "log", log, _LOG, suspends=False)
    bindings.define_function(linker, IMPORT_MODULE, "host_call", call, _HOST_CALL, suspends=True)


def _log(_environment: Any, caller: Any, arguments: Any, *_rest: Any) -> int:
    guest = None
    try:
        guest = calling(caller)
        guest.host.log(arguments[0].of.i32, _read(guest, arguments, 1))
    except BaseException as error:  # noqa: BLE001 - nothing may leave a callback
        blame(guest, error)
        return int(bindings.trap_new(b"log", 3))
    return 0


def _host_call(_environment: Any, caller: Any, arguments: Any, _count: int, results: Any, *rest: Any) -> None:
    guest = None
    continuation = rest[-1][0]
    continuation.finalizer = NO_FINALIZER
    continuation.callback = NEVER
    continuation.env = None
    try:
        guest = calling(caller)
        results[0].kind = _I64
        guest.host_call = _begun(guest, arguments, results[0])
        continuation.env = guest.number
        continuation.callback = STEP
    except BaseException as error:  # noqa: BLE001 - nothing may leave a callback
        blame(guest, error)


def _step(number: int) -> bool:
    guest = None
    try:
        guest = guests[number]
        return guest.host_call is not None and guest.fault is None and guest.host_call.step()
    except BaseException as error:  # noqa: BLE001 - nothing may leave a callback
        blame(guest, error)
        return False


def _never(_number: int) -> bool:
    return False


def calling(caller: Any) -> Guest:
    address = bindings.address(caller)
    guest = guests[bindings.context_data(bindings.caller_context(address))]
    guest.enter_host_call(address)
    guest.charge(HOST_CALL_FUEL, slice_fuel=HOST_CALL_SLICE_FUEL)
    return guest


def _begun(guest: Guest, arguments: Any, result: Any) -> HostCallInFlight:
    if guest.host_call is not None:
        raise GuestFault("trap", "the guest made a host call from within its `allocate`")
    answer = guest.host.call(_read(guest, arguments, 0), _read(guest, arguments, 2))
    return HostCallInFlight(guest, answer, result)


def _read(guest: Guest, arguments: Any, at: int) -> bytes:
    """The bytes of the (pointer, length) pair that stands at index `at`."""
    pointer, length = arguments[at].of.i32 & 0xFFFF_FFFF, arguments[at + 1].of.i32 & 0xFFFF_FFFF
    guest.check_range(pointer, length)
    if length > MAX_ARGUMENT_BYTES:
        reason = f"the guest handed over {length:,} bytes at once; at most {MAX_ARGUMENT_BYTES:,} are allowed"
        raise GuestFault("output_too_large", reason)
    guest.charge(length)
    return guest.read(pointer, length)


def blame(guest: Guest | None, error: BaseException) -> None:
    if guest is not None and guest.fault is None:
        guest.fault = error if isinstance(error, GuestFault) else _host_fault(error)


def _host_fault(error: BaseException) -> GuestFault:
    fault = GuestFault("unavailable", f"the host failed in the middle of a run: {type(error).__name__}: {error}")
    fault.__cause__ = error
    return fault


_LOG: Final = native.wasmtime_func_callback_t(_log)
_HOST_CALL: Final = native.wasmtime_func_async_callback_t(_host_call)
STEP: Final = native.wasmtime_func_async_continuation_callback_t(_step)
NEVER: Final = native.wasmtime_func_async_continuation_callback_t(_never)
