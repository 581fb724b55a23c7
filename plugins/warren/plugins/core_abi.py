"""The guest ABI `core`: how a request gets into a guest and its answer out.

Exports `memory`, `allocate(len) -> ptr` and `handle_request(ptr, len)`, whose answer is either packed into 64 bits as
`ptr << 32 | len`, or a bare pointer to one JSON object, which delimits itself. Optional: `_initialize()` as WASI
reactors have it, `initialize(ptr, len) -> 0` for success, `health_check() -> 1` for healthy, `shutdown() -> 0`, and
`deallocate(ptr, len)`, which Warren has no use for: the whole memory goes with the guest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, Final

from .errors import GuestFault
from .guest import Guest
from .module import CoreAbi

#: Numbers are only passed over, so they may have any number of digits.
_DECODER: Final = json.JSONDecoder(parse_int=float)


#: What a guest can be asked once it has started: what it is given, and how long its answer may be.
Exchange = Callable[[Guest, CoreAbi, bytes, int], Coroutine[Any, Any, bytes]]


async def start(guest: Guest, abi: CoreAbi, config: bytes) -> None:
    """Instantiate, and initialise as far as the module wants it."""
    await guest.instantiate()
    if abi.has_reactor_init:
        await guest.call(b"_initialize", arity=0, results=0)
    if abi.has_initialize:
        code = await guest.call(b"initialize", await _hand_over(guest, config), len(config), arity=2)
        if code & 0xFFFF_FFFF:
            raise GuestFault("trap", f"the guest's `initialize` returned {_signed(code)}, not 0")


async def check_health(guest: Guest, abi: CoreAbi, _request: bytes, _max_answer_bytes: int) -> bytes:
    """Raises `GuestFault` when the guest says that it is not healthy."""
    if abi.has_health_check and (code := await guest.call(b"health_check", arity=0)) & 0xFFFF_FFFF != 1:
        raise GuestFault("trap", f"the guest's `health_check` returned {_signed(code)}, not 1")
    return b""


async def shutdown(guest: Guest, abi: CoreAbi, _request: bytes, _max_answer_bytes: int) -> bytes:
    """Raises `GuestFault` when the guest says that it failed."""
    if abi.has_shutdown and (code := await guest.call(b"shutdown", arity=0)) & 0xFFFF_FFFF:
        raise GuestFault("trap", f"the guest's `shutdown` returned {_signed(code)}, not 0")
    return b""


async def handle_request(guest: Guest, abi: CoreAbi, request: bytes, max_answer_bytes: int) -> bytes:
    """One request to its answer, which is at most `max_answer_bytes` long and not yet looked into."""
    pointer = await _hand_over(guest, request)
    result = await guest.call(b"handle_request", pointer, len(request), arity=2)
    if not abi.packed:
        return _read_object(guest, result & 0xFFFF_FFFF, max_answer_bytes)
    length = result & 0xFFFF_FFFF
    if length > max_answer_bytes:
        raise _too_large(f"{length:,}", max_answer_bytes)
    return guest.read(result >> 32, length)


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
            raise _too_large(f"more than {max_answer_bytes:,}", max_answer_bytes)
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


def _too_large(length: str, max_answer_bytes: int) -> GuestFault:
    reason = f"the guest's answer has {length} bytes; at most {max_answer_bytes:,} are allowed"
    return GuestFault("output_too_large", reason)


def _signed(code: int) -> int:
    code &= 0xFFFF_FFFF
    return code - (1 << 32) if code >> 31 else code
