"""Snapshots: a plugin's initialisation runs once, at load, and every request begins where it ended.

The state of an instance is its memory, its globals, its tables and which of its segments are dropped. A snapshot holds
the first two, and is refused where the others could have changed (`snapshot_code` says how that is known). The module
is run once, instrumented so that its mutable globals can be read, through the very start that each request would make:
`start` function, `_initialize`, `initialize`. Then memory and globals are written into a copy of the module as its
initial ones (`snapshot_module`), and that copy is what requests are instances of: still a fresh instance each, only
older by its initialisation. wasmtime maps its memory copy-on-write, so a request pays for the pages it changes.

What is to be known before turning it on:

- Whatever initialisation draws is drawn once, at load, and shared by all requests until the next load: randomness,
  the keys and hash seeds made of it, the time. A guest that needs them fresh has to draw them in `handle_request`.
- Settings given to `initialize`, secrets among them, end up in the compiled artefact, in the cache folder, readable
  by whoever can read that.
- Lines logged in initialisation are logged once, not by every request; its fuel is no part of a request's.

Refused, besides: any `host_call` made in initialisation (its effect would not be repeated, its answer would grow
stale), and an initialisation that asked for more memory than its limit allows.

wasmtime maps what lies between the first and the last byte that is not zero, and its compiled artefact is as large as
that. Only where this is more than 16 MiB, and less than half of it in use, does each instantiation copy what is in use
instead, at some 0.5 ms for each MiB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from warren.manifests import Grant

from .abi import AnyAbi
from .core_abi import CoreAbi
from .errors import GuestFault, ModuleRefused
from .guest import Guest, Program, free_slot
from .host import Caps, HostSession
from .module import shown
from .outcome import LogLine
from .snapshot_module import GLOBAL_EXPORT, State, with_exported_state, with_state


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A module that begins initialised, and what was logged while it was made."""

    abi: CoreAbi
    wasm: bytes
    logs: tuple[LogLine, ...]


def fit_for_snapshot(abi: AnyAbi) -> CoreAbi:
    """The same ABI. Raises `ModuleRefused` for one whose guests are not initialised by anything but their requests."""
    if not isinstance(abi, CoreAbi):
        raise ModuleRefused(f"[runtime] snapshot is for the ABI 'core' alone, and the module is {abi.name!r}")
    return abi


async def take_snapshot(
    wasm: bytes,
    abi: AnyAbi,
    grant: Grant,
    config: bytes,
    compile_module: Callable[[bytes], Awaitable[Program]],
) -> Snapshot:
    """Initialise `wasm` under `grant`, and bake what that left.

    `wasm` is checked and has its growth witnessed, as it would be compiled without a snapshot; `config` is what
    `initialize` is given. Raises `ModuleRefused` when the initialisation fails, or a snapshot of it would not be
    sound, and what `compile_module` raises.

    Costs the initialisation and a compilation, and some 3 ms for each MiB of memory in use.
    """
    core = fit_for_snapshot(abi)
    instrumented, indices = await asyncio.to_thread(with_exported_state, wasm)
    program = await compile_module(instrumented)
    session = _InitialSession(grant, {}, Caps())
    limits = grant.limits
    await free_slot(0)
    guest = Guest(program, session, limits.max_fuel, limits.memory_bytes, limits.timeout_s)
    try:
        await core.start(guest, config)
        state = _state(guest, indices)
    except GuestFault as fault:
        raise ModuleRefused(fault.reason) from fault
    finally:
        guest.close()
    baked = await asyncio.to_thread(with_state, wasm, state)
    return Snapshot(replace(core, has_initialize=False, has_reactor_init=False), baked, session.finished_logs())


class _InitialSession(HostSession):
    """Lets an initialisation log, and nothing else."""

    def call(self, name: bytes, arguments: bytes) -> bytes | Coroutine[Any, Any, bytes]:  # noqa: ARG002
        function = shown(name.decode(errors="replace"))
        raise GuestFault(
            "denied",
            f"its initialisation calls the host function {function}, which a snapshot would not repeat for each "
            "request; call it in `handle_request`, or set [runtime] snapshot = false",
        )


def _state(guest: Guest, indices: tuple[int, ...]) -> State:
    if guest.refused_bytes:
        reason = f"its initialisation was refused {guest.refused_bytes:,} more bytes of memory than its limit allows"
        raise GuestFault("out_of_memory", reason)
    global_bits = {index: guest.read_global(f"{GLOBAL_EXPORT}{index}") or b"" for index in indices}
    return State(guest.read(0, guest.memory_bytes), global_bits)
