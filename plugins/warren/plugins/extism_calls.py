"""What Extism's kernel asks of its host, each under its name: pointers into the kernel's memory, lengths, numbers.

What is answered is kept until the kernel has made a block of it, of the length that it was told, and takes it; -1 is
told for nothing. Config, variables and HTTP headers have an Extism plugin's meaning, and HTTP goes through the host
function `http_request`, with all that the plugin was granted or not.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, cast

import wasmtime
from pydantic_core import from_json, to_json

from . import bindings
from .callbacks import answering, suspending
from .errors import GuestFault
from .extism_guest import ExtismGuest
from .extism_kernel import HOST, HOST_SIGNATURES
from .guest import Guest
from .host_call import AnswerAwaited
from .host_imports import MAX_ARGUMENT_BYTES
from .network_request import HTTP_REQUEST

#: The user function that carries every host function by name, as `warren_v1.host_call` does.
HOST_CALL: Final = "warren_host_call"

_NOTHING: Final = -1
_I32: Final = 0
_I64: Final = 1
_MASK: Final = 0xFFFF_FFFF


def define_kernel_imports(linker: wasmtime.Linker) -> None:
    """Give the linker all that a kernel imports, once per engine."""
    types = {"i32": wasmtime.ValType.i32, "i64": wasmtime.ValType.i64}
    for name, signature in HOST_SIGNATURES.items():
        params, results = ([types[each]() for each in side] for side in (signature.params, signature.results))
        given = wasmtime.FuncType(params, results)
        bindings.define_function(linker, HOST, name, given, _CALLBACKS[name], suspends=name in _SUSPENDING)


def _read(guest: ExtismGuest, arguments: Any, at: int) -> bytes:
    """The bytes of the (pointer, length) pair that stands at index `at`."""
    pointer, length = arguments[at].of.i32 & _MASK, arguments[at + 1].of.i32 & _MASK
    if length > MAX_ARGUMENT_BYTES:
        reason = f"the guest handed over {length:,} bytes at once; at most {MAX_ARGUMENT_BYTES:,} are allowed"
        raise GuestFault("output_too_large", reason)
    guest.charge(length)
    return guest.read_kernel(pointer, length)


def _tell(guest: ExtismGuest, answer: bytes | None) -> int:
    if answer is None:
        return _NOTHING
    guest.charge(len(answer))
    guest.pending = answer
    return len(answer)


def _grow(guest: ExtismGuest, arguments: Any) -> None:
    guest.before_kernel_grows(arguments[0].of.i32 & _MASK)


def _no_block(_guest: ExtismGuest, arguments: Any) -> None:
    handle = arguments[0].of.i64 & 0xFFFF_FFFF_FFFF_FFFF
    raise GuestFault("trap", f"the guest gave a handle that is none of Extism's memory: {handle:,}")


def _take(guest: ExtismGuest, arguments: Any) -> None:
    pending, guest.pending = guest.pending, b""
    guest.write_kernel(arguments[0].of.i32 & _MASK, pending)


def _input(guest: ExtismGuest, _arguments: Any) -> int:
    return _tell(guest, guest.data)


def _config(guest: ExtismGuest, arguments: Any) -> int:
    if guest.settings is None:
        guest.settings = from_json(guest.config).get("settings", {})
    name = _read(guest, arguments, 0).decode(errors="replace")
    settings = cast("Mapping[str, Any]", guest.settings)
    if name not in settings:
        return _NOTHING
    value = settings[name]
    return _tell(guest, value.encode() if isinstance(value, str) else to_json(value))


def _var_get(guest: ExtismGuest, arguments: Any) -> int:
    return _tell(guest, guest.variables.get(_read(guest, arguments, 0)))


def _var_set(guest: ExtismGuest, arguments: Any) -> None:
    guest.set_variable(_read(guest, arguments, 0), _read(guest, arguments, 2))


def _var_delete(guest: ExtismGuest, arguments: Any) -> None:
    guest.delete_variable(_read(guest, arguments, 0))


def _http_status(guest: ExtismGuest, _arguments: Any) -> int:
    return guest.http_status


def _http_headers(guest: ExtismGuest, _arguments: Any) -> int:
    return _tell(guest, guest.http_headers or None)


def _log(guest: ExtismGuest, arguments: Any) -> None:
    guest.host.log(arguments[0].of.i32, _read(guest, arguments, 1))


def _http(guest: ExtismGuest, arguments: Any) -> bytes | Coroutine[Any, Any, bytes]:
    try:
        asked = from_json(_read(guest, arguments, 0))
        request = {"url": asked["url"], "method": asked.get("method") or "GET", "headers": asked.get("headers") or {}}
    except (ValueError, TypeError, KeyError, AttributeError):
        reason = 'the guest\'s HTTP request is not {"url": "...", "method": "...", "headers": {...}}'
        raise GuestFault("trap", reason) from None
    if arguments[2].of.i32:
        request["body_base64"] = base64.b64encode(_read(guest, arguments, 2)).decode()
    return guest.host.call(HTTP_REQUEST.encode(), to_json(request))


def _take_http(guest: ExtismGuest, answer: bytes) -> int:
    """Extism has no way to tell its guest of an error: it ends the run there, and so does this."""
    told = from_json(answer)
    if "error" in told:
        raise GuestFault("trap", f"the guest's HTTP request failed: {told['error']['message']}")
    response = told["ok"]
    guest.http_status = response["status"]
    guest.http_headers = to_json({name: ", ".join(values) for name, values in response["headers"].items()})
    body = response["body"]
    return _tell(guest, base64.b64decode(response["body_base64"]) if body is None else body.encode())


def _user(guest: ExtismGuest, arguments: Any) -> bytes | Coroutine[Any, Any, bytes]:
    name = guest.user_functions[arguments[0].of.i32]
    given = _read(guest, arguments, 1)
    if name != HOST_CALL:
        return guest.host.call(name.encode(), given)
    try:
        asked = from_json(given)
        function, value = asked["function"].encode(), to_json(asked.get("arguments"))
    except (ValueError, TypeError, KeyError, AttributeError):
        message = f'{HOST_CALL} takes {{"function": "...", "arguments": ...}}'
        return to_json({"error": {"code": "invalid_arguments", "message": message}})
    return guest.host.call(function, value)


def _answering(call: Callable[[ExtismGuest, Any], int | None], *, kind: int) -> Any:
    """`call` as wasmtime calls it."""

    def answer(guest: Guest, arguments: Any, results: Any) -> None:
        value = call(cast("ExtismGuest", guest), arguments)
        if value is not None:
            results[0].kind = kind
            results[0].of.i64 = value

    return answering(answer)


def _suspending(
    begin: Callable[[ExtismGuest, Any], bytes | Coroutine[Any, Any, bytes]], take: Callable[[ExtismGuest, bytes], int]
) -> Any:
    """The same for a function of whose host function's answer, given at once or after waiting, `take` makes its own."""

    def begin_waiting(guest: Guest, arguments: Any, result: Any) -> AnswerAwaited | None:
        extism = cast("ExtismGuest", guest)
        result.kind = _I64

        def give(answer: bytes) -> None:
            result.of.i64 = take(extism, answer)

        answer = begin(extism, arguments)
        if not isinstance(answer, bytes):
            return AnswerAwaited(extism, answer, give)
        give(answer)
        return None

    return suspending(begin_waiting)


_ANSWERING: Final[Mapping[str, Callable[[ExtismGuest, Any], int | None]]] = {
    "grow": _grow,
    "no_block": _no_block,
    "take": _take,
    "input": _input,
    "config": _config,
    "var_get": _var_get,
    "var_set": _var_set,
    "var_delete": _var_delete,
    "http_status": _http_status,
    "http_headers": _http_headers,
    "log": _log,
}
_SUSPENDING: Final = {"http": (_http, _take_http), "user": (_user, _tell)}

_CALLBACKS: Final = {
    **{
        name: _answering(call, kind=_I32 if HOST_SIGNATURES[name].results == ("i32",) else _I64)
        for name, call in _ANSWERING.items()
    },
    **{name: _suspending(begin, take) for name, (begin, take) in _SUSPENDING.items()},
}
