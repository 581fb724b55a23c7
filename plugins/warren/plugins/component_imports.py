"""What a component may import: `warren:plugin/host`, and of WASI 0.2 what a plugin can have any use for.

Of WASI, a language's runtime imports more than a plugin ever calls. What stands in `_WASI` means what it means: clock
and randomness are the run's, and recorded with it; what is printed becomes log lines; there are no directories, and no
terminals. Whatever else is called traps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import wasmtime
from pydantic_core import from_json
from wasmtime.component import Component, Linker, ResourceType

from . import bindings
from .callbacks import HOST_CALL_FUEL, answering_component, suspending_component
from .component_values import (
    Fill,
    byte_list,
    done,
    listed,
    none,
    read_bytes,
    read_case,
    read_resource,
    read_text,
    record,
    resource,
    result,
    text,
    tupled,
    u32,
    u64,
)
from .errors import GuestFault
from .guest import Guest
from .host import LEVELS
from .host_call import AnswerAwaited
from .host_imports import MAX_ARGUMENT_BYTES
from .wasi_abi import STDERR, STDOUT

HOST: Final = "warren:plugin/host@1.0.0"

WASI: Final = "wasi:"

_STREAMS: Final = "wasi:io/streams"

#: The number that the type of streams has among the host's resources.
_STREAM: Final = 1

#: Printed at once at most; each is a value of 32 bytes on its way, which took 10 ns. As many empty lines take 10 ms.
_MAX_PRINTED_BYTES: Final = 16 << 10
_PRINTED_FUEL: Final = 20

#: Drawn at once at most: each is a value of 32 bytes on its way.
_MAX_RANDOM_BYTES: Final = 64 << 10

#: For a variable of the environment, besides its bytes: it takes the host 5 µs.
_VARIABLE_FUEL: Final = 5_000

_SECOND_NS: Final = 1_000_000_000

#: The functions that a component may import of Warren's own, with their types.
HOST_TYPES: Final[Mapping[str, str]] = {
    "log": "func(level: enum{debug, info, warn, error}, message: string)",
    "call": "func(function: string, arguments: string) -> result<string, record{code: string, message: string}>",
}


def _log(guest: Guest, arguments: Any, _results: Any) -> None:
    guest.host.log(LEVELS.index(read_case(arguments[0])), _taken(guest, arguments[1]))


def _call(guest: Guest, arguments: Any, given: Any) -> AnswerAwaited | None:
    answer = guest.host.call(_taken(guest, arguments[0]), _taken(guest, arguments[1]))
    if isinstance(answer, bytes):
        _answer(guest, given, answer)
        return None
    return AnswerAwaited(guest, answer, partial(_answer, guest, given))


#: How the answer of a host function begins that did what it was asked, and is JSON to the last brace.
_OK: Final = b'{"ok":'


def _answer(guest: Guest, given: Any, answer: bytes) -> None:
    guest.charge(len(answer))
    if answer.startswith(_OK):
        result(text(answer[len(_OK) : -1]), is_ok=True)(given)
        return
    error = from_json(answer)["error"]
    told = record(code=text(error["code"].encode()), message=text(error["message"].encode()))
    result(told, is_ok=False)(given)


def _taken(guest: Guest, value: Any) -> bytes:
    """A string that the guest handed over: wasmtime has copied it already."""
    length = value.of.string.size
    guest.charge(length)
    if length > MAX_ARGUMENT_BYTES:
        reason = f"the guest handed over {length:,} bytes at once; at most {MAX_ARGUMENT_BYTES:,} are allowed"
        raise GuestFault("output_too_large", reason)
    return read_text(value)


# WASI ---------------------------------------------------------------------------------------------------------------


def _random_bytes(guest: Guest, arguments: Any) -> Fill:
    length = arguments[0].of.u64
    if length > _MAX_RANDOM_BYTES:
        reason = f"the guest drew {length:,} random bytes at once; at most {_MAX_RANDOM_BYTES:,} are given"
        raise GuestFault("trap", reason)
    guest.charge(100 * length)
    return byte_list(guest.host.process.world.random_bytes(length))


def _random_number(guest: Guest, _arguments: Any) -> Fill:
    return u64(_drawn(guest))


def _insecure_seed(guest: Guest, _arguments: Any) -> Fill:
    return tupled([u64(_drawn(guest)), u64(_drawn(guest))])


def _drawn(guest: Guest) -> int:
    return int.from_bytes(guest.host.process.world.random_bytes(8))


def _time_of_day(guest: Guest, _arguments: Any) -> Fill:
    seconds, nanoseconds = divmod(guest.host.process.world.clock_ns("realtime"), _SECOND_NS)
    return record(seconds=u64(seconds), nanoseconds=u32(nanoseconds))


def _monotonic(guest: Guest, _arguments: Any) -> Fill:
    return u64(guest.host.process.world.clock_ns("monotonic"))


def _resolution_of_day(_guest: Guest, _arguments: Any) -> Fill:
    return record(seconds=u64(0), nanoseconds=u32(1))


def _resolution(_guest: Guest, _arguments: Any) -> Fill:
    return u64(1)


def _environment(guest: Guest, _arguments: Any) -> Fill:
    guest.charge(sum(_VARIABLE_FUEL + len(line) for line in guest.host.process.environment))
    pairs = [line.partition(b"=") for line in guest.host.process.environment]
    return listed([tupled([text(name), text(value)]) for name, _, value in pairs])


def _nothing(_guest: Guest, _arguments: Any) -> Fill:
    return listed([])


def _no_terminal(_guest: Guest, _arguments: Any) -> Fill:
    return none


def _stdout(guest: Guest, _arguments: Any) -> Fill:
    return resource(guest.context, STDOUT, _STREAM)


def _stderr(guest: Guest, _arguments: Any) -> Fill:
    return resource(guest.context, STDERR, _STREAM)


def _room(guest: Guest, arguments: Any) -> Fill:
    _stream(guest, arguments)
    return result(u64(_MAX_PRINTED_BYTES), is_ok=True)


def _print(guest: Guest, arguments: Any) -> Fill:
    length = arguments[1].of.list.size
    guest.charge(_PRINTED_FUEL * length)
    if length > _MAX_PRINTED_BYTES:
        reason = f"the guest printed {length:,} bytes at once; it was told to print {_MAX_PRINTED_BYTES:,} at most"
        raise GuestFault("trap", reason)
    printed = read_bytes(arguments[1])
    # A line costs the host what a call of `log` does.
    guest.charge(printed.count(b"\n") * HOST_CALL_FUEL)
    guest.host.process.write(_stream(guest, arguments), printed)
    return done


def _flush(guest: Guest, arguments: Any) -> Fill:
    _stream(guest, arguments)
    return done


def _stream(guest: Guest, arguments: Any) -> int:
    """The stream that is lent to a call, which has to be given back before the call ends."""
    return read_resource(guest.context, arguments[0], _STREAM)


@dataclass(frozen=True, slots=True)
class _Function:
    """A function of WASI: its type, and what makes its result of the arguments."""

    type_text: str
    give: Callable[[Guest, Any], Fill]


_RANDOM: Final = {
    "get-random-bytes": _Function("func(len: u64) -> list<u8>", _random_bytes),
    "get-random-u64": _Function("func() -> u64", _random_number),
}
_INSECURE: Final = {
    "get-insecure-random-bytes": _RANDOM["get-random-bytes"],
    "get-insecure-random-u64": _RANDOM["get-random-u64"],
}
_DATETIME: Final = "func() -> record{seconds: u64, nanoseconds: u32}"

_PRINT: Final = _Function("func(self: borrow, contents: list<u8>) -> result<_, variant>", _print)
_FLUSH: Final = _Function("func(self: borrow) -> result<_, variant>", _flush)
_TERMINAL: Final = _Function("func() -> option<own>", _no_terminal)

#: By interface, without its version, and name.
_WASI: Final[Mapping[str, Mapping[str, _Function]]] = {
    "wasi:random/random": _RANDOM,
    "wasi:random/insecure": _INSECURE,
    "wasi:random/insecure-seed": {"insecure-seed": _Function("func() -> tuple<u64, u64>", _insecure_seed)},
    "wasi:clocks/wall-clock": {
        "now": _Function(_DATETIME, _time_of_day),
        "resolution": _Function(_DATETIME, _resolution_of_day),
    },
    "wasi:clocks/monotonic-clock": {
        "now": _Function("func() -> u64", _monotonic),
        "resolution": _Function("func() -> u64", _resolution),
    },
    "wasi:cli/environment": {
        "get-environment": _Function("func() -> list<tuple<string, string>>", _environment),
        "get-arguments": _Function("func() -> list<string>", _nothing),
    },
    "wasi:cli/stdout": {"get-stdout": _Function("func() -> own", _stdout)},
    "wasi:cli/stderr": {"get-stderr": _Function("func() -> own", _stderr)},
    "wasi:cli/terminal-stdin": {"get-terminal-stdin": _TERMINAL},
    "wasi:cli/terminal-stdout": {"get-terminal-stdout": _TERMINAL},
    "wasi:cli/terminal-stderr": {"get-terminal-stderr": _TERMINAL},
    _STREAMS: {
        "[method]output-stream.check-write": _Function("func(self: borrow) -> result<u64, variant>", _room),
        "[method]output-stream.write": _PRINT,
        "[method]output-stream.blocking-write-and-flush": _PRINT,
        "[method]output-stream.flush": _FLUSH,
        "[method]output-stream.blocking-flush": _FLUSH,
    },
    "wasi:filesystem/preopens": {
        "get-directories": _Function("func() -> list<tuple<own, string>>", _nothing),
    },
}


def _giving(give: Callable[[Guest, Any], Fill]) -> Any:
    def answer(guest: Guest, arguments: Any, results: Any) -> None:
        give(guest, arguments)(results[0])

    return answering_component(answer)


#: They live for ever, as wasmtime wants.
_LOG: Final = answering_component(_log)
_CALL: Final = suspending_component(_call)
_CALLBACKS: Final = {each: _giving(each.give) for functions in _WASI.values() for each in functions.values()}


def _forget(_store: object, _number: int) -> None:
    """A stream that the guest drops is there for the next."""


def import_types(imports: Iterable[str]) -> dict[str, Mapping[str, str]]:
    """The types of all functions that are provided, of the interfaces of these names."""
    types: dict[str, Mapping[str, str]] = {HOST: HOST_TYPES}
    for name in imports:
        functions = _WASI.get(name.partition("@")[0], {})
        types[name] = types.get(name) or {each: function.type_text for each, function in functions.items()}
    return types


def linker_for(engine: wasmtime.Engine, component: Component, imports: Iterable[str]) -> Linker:
    """A linker for this component, whose imports have these names, and types that were checked."""
    linker = Linker(engine)
    with linker.root() as root:
        with root.add_instance(HOST) as host:
            bindings.define_component_function(host, "log", _LOG, suspends=False)
            bindings.define_component_function(host, "call", _CALL, suspends=True)
        for name in imports:
            functions = _WASI.get(name.partition("@")[0])
            if functions:
                with root.add_instance(name) as instance:
                    if name.startswith(_STREAMS):
                        instance.add_resource("output-stream", ResourceType.host(_STREAM), _forget)
                    for function_name, function in functions.items():
                        callback = _CALLBACKS[function]
                        bindings.define_component_function(instance, function_name, callback, suspends=False)
    linker.define_unknown_imports_as_traps(component)
    return linker
