"""Warren's own imports: `warren_v1.log`, and `warren_v1.host_call`, which carries every host function by name."""

from __future__ import annotations

from typing import Any, Final

import wasmtime

from . import bindings
from .callbacks import answering, suspending
from .errors import GuestFault
from .guest import Guest
from .host_call import HostCallInFlight
from .module import FuncType

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
    bindings.define_function(linker, IMPORT_MODULE, "log", log, answering(_log), suspends=False)
    bindings.define_function(linker, IMPORT_MODULE, "host_call", call, suspending(_host_call), suspends=True)


def _log(guest: Guest, arguments: Any, _results: Any) -> None:
    guest.host.log(arguments[0].of.i32, _read(guest, arguments, 1))


def _host_call(guest: Guest, arguments: Any, result: Any) -> HostCallInFlight:
    result.kind = _I64
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
