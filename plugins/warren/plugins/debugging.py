"""Debugging: what is kept of a plugin's runs, beyond their outcomes, for its author.

    debugging = Debugging("my_plugin", profile=True)
    async with PluginManager("plugins", debugging=debugging) as manager:
        outcome = await manager.find("my_plugin").run(request)
    for line in folded(debugging.last.profile): print(line)

The sandbox tells of each guest of that plugin when it begins and before it is closed; of every other it does nothing. A
profile needs a module that tells of its calls (`profile_module`), and takes some 10 µs for each: a run that is profiled
has `PROFILE_TIME_S` more time, and in all else the limits that it would have. Its frames are a little larger, so a
guest that recurses without end overflows its stack a little sooner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import wasmtime

from warren.manifests import Grant

from . import bindings
from .abi import AnyGuest
from .bindings import AnsweringCallback
from .component_binary import is_component
from .errors import ModuleRefused
from .fuel_profile import FuelProfile
from .growth import WITNESS_EXPORT
from .guest import Guest, Program, guests
from .module import read_module
from .profile_module import ENTER, EVENT_FUEL, LEAVE, PROFILE_MODULE, MovedLines, ProfiledModule, with_events

#: What a run may take longer when each of its calls is told: enough for some 10 million.
PROFILE_TIME_S: Final = 120.0

#: What an event takes of a slice of fuel, as a host call does: its time, in fuel.
_EVENT_SLICE_FUEL: Final = 3_000

#: Globals that are kept. A hostile module can export 2,000.
_MAX_GLOBALS: Final = 100


@dataclass(frozen=True, slots=True)
class Capture:
    """What was kept of a run. `globals` are those exported: their bits, little end first."""

    profile: FuelProfile | None
    memory: bytes
    globals: Mapping[str, bytes]


class Debugging:
    """What to keep of the runs of the plugin of that name. `last` is of the request that ended last.

    It belongs to one manager, and to one event loop.
    """

    def __init__(self, plugin: str, *, profile: bool = False, memory: bool = False) -> None:
        self.plugin = plugin
        self.last: Capture | None = None
        self._wants_profile = profile
        self._wants_memory = memory

    def prepare(self, wasm: bytes) -> Prepared:
        """The module that is to be compiled in place of `wasm`. Raises `ModuleRefused`."""
        if is_component(wasm) and (self._wants_profile or self._wants_memory):
            raise ModuleRefused("a profile and its memory can be had of a core module only, and this is a component")
        profiled = with_events(wasm) if self._wants_profile else None
        exported = () if not self._wants_memory else _globals(wasm)
        return Prepared(self, wasm if profiled is None else profiled.wasm, profiled, exported, self._wants_memory)


@dataclass(frozen=True, slots=True)
class Prepared:
    """One version of the plugin: `wasm` is to be compiled."""

    debugging: Debugging
    wasm: bytes
    _profiled: ProfiledModule | None
    _globals: tuple[str, ...]
    _keeps_memory: bool

    def program(self, program: Program) -> Program:
        """`program`, compiled from `wasm`, with the lines that it was given as they are there."""
        if self._profiled is None or program.lines is None:
            return program
        return replace(program, lines=MovedLines(program.lines, self._profiled.places))

    def grant(self, grant: Grant) -> Grant:
        """`grant`, with the time that it takes."""
        if self._profiled is None:
            return grant
        limits = replace(grant.limits, timeout_s=grant.limits.timeout_s + PROFILE_TIME_S)
        return replace(grant, limits=limits)

    def begin(self, guest: AnyGuest) -> None:
        """A guest has been made, and has not been instantiated."""
        if self._profiled is not None and isinstance(guest, Guest):
            _profiles[guest.number] = FuelProfile(self._profiled.names, self._profiled.imported)

    def end(self, guest: AnyGuest, *, keep: bool) -> None:
        """The guest is about to be closed; if it was given a request, what there is of it is to be kept."""
        if not isinstance(guest, Guest):  # that of a component: there is nothing that could be kept
            return
        profile = _profiles.pop(guest.number, None)
        if profile is not None:
            profile.finish(guest.fuel_used)
        if not keep:
            return
        memory = guest.whole_memory() if self._keeps_memory else b""
        values = {name: guest.read_global(name) for name in self._globals}
        bits = {name: value for name, value in values.items() if value is not None}
        self.debugging.last = Capture(profile, memory, bits)


def _globals(wasm: bytes) -> tuple[str, ...]:
    names = [name for name, export in read_module(wasm).exports.items() if export.kind == "global"]
    return tuple(name for name in names if name != WITNESS_EXPORT)[:_MAX_GLOBALS]


#: The profiles of runs under way, by the number of their guest.
_profiles: Final[dict[int, FuelProfile]] = {}


def define_profile_imports(linker: wasmtime.Linker) -> None:
    """Give the linker the imports of a module that tells of its calls, once per engine. No ABI lets a guest name them.

    The callbacks do as little as can be done, and trap, rather than raise, should they fail.
    """
    signature = wasmtime.FuncType([wasmtime.ValType.i32()], [])
    for name, callback in ((ENTER, _ON_ENTER), (LEAVE, _ON_LEAVE)):
        bindings.define_function(linker, PROFILE_MODULE, name, signature, callback, suspends=False)


def _told(caller: Any) -> tuple[FuelProfile, int]:
    number = bindings.context_data(bindings.caller_context(bindings.address(caller)))
    fuel_used = guests[number].give_back(EVENT_FUEL, slice_fuel=_EVENT_SLICE_FUEL)
    return _profiles[number], fuel_used


def _on_enter(_environment: Any, caller: Any, arguments: Any, _count: int, _given: Any, _results: int) -> int:
    try:
        profile, fuel_used = _told(caller)
        profile.enter(arguments[0].of.i32, fuel_used)
    except BaseException:  # noqa: BLE001 - nothing may leave a callback
        return int(bindings.trap_new(b"host", 4))
    return 0


def _on_leave(_environment: Any, caller: Any, _arguments: Any, _count: int, _given: Any, _results: int) -> int:
    try:
        profile, fuel_used = _told(caller)
        profile.leave(fuel_used)
    except BaseException:  # noqa: BLE001 - nothing may leave a callback
        return int(bindings.trap_new(b"host", 4))
    return 0


_ON_ENTER: Final = AnsweringCallback(_on_enter)
_ON_LEAVE: Final = AnsweringCallback(_on_leave)
