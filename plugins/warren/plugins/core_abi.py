"""The guest ABI `core`: how a request gets into a guest and its answer out.

Exports `memory`, `allocate(len) -> ptr` and `handle_request(ptr, len)`, whose answer is either packed into 64 bits as
`ptr << 32 | len`, or a bare pointer to one JSON object, which delimits itself. Optional: `_initialize()` as WASI
reactors have it, `initialize(ptr, len) -> 0` for success, `health_check() -> 1` for healthy, `shutdown() -> 0`, and
`deallocate(ptr, len)`, which Warren has no use for: the whole memory goes with the guest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from warren.manifests import Abi as AbiName

from .answers import answer_too_large
from .errors import GuestFault, ModuleRefused
from .guest import Guest, Program
from .module import FuncType, ModuleInfo, wrong_exports, wrong_imports

if TYPE_CHECKING:
    from .engine import Engine

#: Numbers are only passed over, so they may have any number of digits.
_DECODER: Final = json.JSONDecoder(parse_int=float)

_PACKED: Final = FuncType(("i32", "i32"), ("i64",))
_BARE: Final = FuncType(("i32", "i32"), ("i32",))

#: The functions of the ABI with the signatures that each may have.
_REQUIRED: Final[Mapping[str, tuple[FuncType, ...]]] = {
    "allocate": (FuncType(("i32",), ("i32",)),),
    "handle_request": (_PACKED, _BARE),
}
_OPTIONAL: Final[Mapping[str, tuple[FuncType, ...]]] = {
    "deallocate": (FuncType(("i32", "i32")),),
    "initialize": (FuncType(("i32", "i32"), ("i32",)),),
    "shutdown": (FuncType((), ("i32",)),),
    "health_check": (FuncType((), ("i32",)),),
    "_initialize": (FuncType(),),
}


@dataclass(frozen=True, slots=True)
class CoreAbi:
    """What of the ABI a module has; an `Abi`."""

    name: ClassVar[AbiName] = "core"
    guest_class: ClassVar[type[Guest]] = Guest

    #: `handle_request` gives `ptr << 32 | len`; else a bare pointer to one JSON value.
    packed: bool
    has_deallocate: bool
    has_initialize: bool
    has_shutdown: bool
    has_health_check: bool
    #: `_initialize`, which is to be called before everything else, as WASI reactors have it.
    has_reactor_init: bool

    async def compile(self, engine: Engine, wasm: bytes) -> Program:
        return await engine.compile(wasm)

    async def start(self, guest: Guest, config: bytes) -> None:
        """Instantiate, and initialise as far as the module wants it."""
        await guest.instantiate()
        if self.has_reactor_init:
            await guest.call(b"_initialize", arity=0, results=0)
        if self.has_initialize:
            code = await guest.call(b"initialize", await _hand_over(guest, config), len(config), arity=2)
            if code & 0xFFFF_FFFF:
                raise GuestFault("trap", f"the guest's `initialize` returned {_signed(code)}, not 0")

    async def handle_request(self, guest: Guest, request: bytes, max_answer_bytes: int) -> bytes:
        """One request to its answer, which is at most `max_answer_bytes` long and not yet looked into."""
        pointer = await _hand_over(guest, request)
        result = await guest.call(b"handle_request", pointer, len(request), arity=2)
        if not self.packed:
            return _read_object(guest, result & 0xFFFF_FFFF, max_answer_bytes)
        length = result & 0xFFFF_FFFF
        if length > max_answer_bytes:
            raise answer_too_large(f"{length:,}", max_answer_bytes)
        return guest.read(result >> 32, length)

    async def check_health(self, guest: Guest) -> None:
        """Raises `GuestFault` when the guest says that it is not healthy."""
        if self.has_health_check and (code := await guest.call(b"health_check", arity=0)) & 0xFFFF_FFFF != 1:
            raise GuestFault("trap", f"the guest's `health_check` returned {_signed(code)}, not 1")

    async def shutdown(self, guest: Guest) -> None:
        """Raises `GuestFault` when the guest says that it failed."""
        if self.has_shutdown and (code := await guest.call(b"shutdown", arity=0)) & 0xFFFF_FFFF:
            raise GuestFault("trap", f"the guest's `shutdown` returned {_signed(code)}, not 0")


def check_core_abi(info: ModuleInfo, allowed_imports: Mapping[tuple[str, str], FuncType]) -> CoreAbi:
    """How `info` fits the ABI when the host provides `allowed_imports`.

    Raises `ModuleRefused` with all that is wrong. The size of the memory is not judged: the sandbox's limit decides.
    """
    problems = [*wrong_exports(info, _REQUIRED, _OPTIONAL), *wrong_imports(info.imports, allowed_imports)]
    if problems:
        raise ModuleRefused("; ".join(problems))
    exports = info.exports
    return CoreAbi(
        packed=exports["handle_request"].signature == _PACKED,
        has_deallocate="deallocate" in exports,
        has_initialize="initialize" in exports,
        has_shutdown="shutdown" in exports,
        has_health_check="health_check" in exports,
        has_reactor_init="_initialize" in exports,
    )


async def _hand_over(guest: Guest, data: bytes) -> int:
    pointer = await guest.call(b"allocate", len(data), arity=1) & 0xFFFF_FFFF
    guest.write(pointer, data)
    return pointer


def _read_object(guest: Guest, pointer: int, max_answer_bytes: int) -> bytes:
    if pointer == 0:
        raise GuestFault("trap", "the guest answered nothing (a null pointer)")
    readable = min(max_answer_bytes, guest.memory_bytes - pointer)
    answer = object_prefix(guest.read(pointer, max(0, readable)))
    if answer is None:
        if readable == max_answer_bytes:
            raise answer_too_large(f"more than {max_answer_bytes:,}", max_answer_bytes)
        raise GuestFault("trap", "the guest's answer is not a JSON object")
    return answer


def object_prefix(data: bytes) -> bytes | None:
    """The JSON object that `data` begins with, whatever follows it; None when there is none."""
    if not data.startswith(b"{"):
        return None
    try:
        # A character a byte: positions stay right, and what is in the strings is judged with the answer.
        _, end = _DECODER.raw_decode(data.decode("latin-1"))
    except (ValueError, RecursionError):
        return None
    return data[:end]


def _signed(code: int) -> int:
    code &= 0xFFFF_FFFF
    return code - (1 << 32) if code >> 31 else code
