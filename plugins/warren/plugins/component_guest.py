"""A guest of the ABI `component`: an instance of a component, in a store of its own.

It is polled as every guest is. What wasmtime does not tell of a component is what its memory has become, nor the code
of a trap: a guest has what it began with to show for its memory, and has run out of fuel when there is none left. A
memory that was refused to it can be seen by the guest alone.

Its engine has no pool: a component is made of dozens of instances, and would take the slots of as many other guests.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from wasmtime.component import ExportIndex

from . import bindings
from .backtrace import described
from .bindings import ComponentFunction, ComponentInstance, ComponentValue, Failure
from .component_values import Fill, read_result
from .errors import GuestFault
from .guest import Guest, Host, Program
from .instance_pool import MAX_TABLE_ELEMENTS, MAX_TABLES

#: Of core instances, with those that wasmtime puts between components.
MAX_INSTANCES: Final = 1_000

#: Characters of what wasmtime says of a trap. It names the function that is not there, in 100 kB if that is its name.
_MAX_MESSAGE: Final = 500


@dataclass(frozen=True, slots=True)
class ComponentProgram(Program):
    """A component with its linker; what is `prepared` is both, and its address the component's."""

    linker_address: int = 0
    #: The functions that are called, by interface and name.
    functions: Mapping[tuple[str, str], ExportIndex] | None = None
    memories: int = 0
    #: What all memories but the largest can have.
    little_bytes: int = 0

    def export_address(self, interface: str, name: str) -> int:
        """Where wasmtime keeps what it finds the function by."""
        return bindings.address((self.functions or {})[interface, name].ptr())


class ComponentGuest(Guest):
    """See `Guest`."""

    def __init__(self, program: ComponentProgram, host: Host, fuel: int, memory_bytes: int, timeout_s: float) -> None:
        super().__init__(program, host, fuel, memory_bytes, timeout_s)
        self._component = program
        limit = max(0, memory_bytes - program.little_bytes)
        bindings.store_limiter(self._store, limit, MAX_TABLE_ELEMENTS, MAX_INSTANCES, MAX_TABLES, program.memories)
        self._instance = ComponentInstance()
        self._function = ComponentFunction()

    async def instantiate(self) -> None:
        """Make all instances; `start` functions run here."""
        program = self._component
        await self._finish(
            bindings.component_instantiate_async(
                program.linker_address,
                self.context,
                program.prepared_address,
                ctypes.addressof(self._instance),
                self.slots.at_error,
            )
        )

    async def ask(self, interface: str, name: str, *fill: Fill) -> tuple[bool, bytes]:
        """Call a function whose result is one of strings, or of nothing: whether it is ok, and its text."""
        context, function = self.context, self._function
        if not bindings.component_function(
            ctypes.addressof(self._instance),
            context,
            self._component.export_address(interface, name),
            ctypes.addressof(function),
        ):
            raise GuestFault("unavailable", f"the sandbox could not find {name!r} in the component")
        self._begin_slice()
        arguments = (ComponentValue * len(fill))()
        for argument, fill_one in zip(arguments, fill, strict=True):
            fill_one(argument)
        result = ComponentValue()
        try:
            await self._finish(
                bindings.component_call_async(
                    ctypes.addressof(function),
                    context,
                    ctypes.addressof(arguments),
                    len(fill),
                    ctypes.addressof(result),
                    1,
                    self.slots.at_error,
                )
            )
            told = read_result(result)
            bindings.component_value_delete(ctypes.addressof(result))
        finally:
            for argument in arguments:
                bindings.component_value_delete(ctypes.addressof(argument))
        return told

    def _take_failure(self, trap: str, error: str) -> Failure:  # noqa: ARG002 - it comes as an error
        self._has_failed = True
        address = getattr(self.slots, error)
        setattr(self.slots, error, None)
        return bindings.take_component_error(address)

    def _failure(self, failure: Failure) -> GuestFault:
        backtrace = tuple(described(frame, None) for frame in failure.frames)
        if not self._fuel_left():
            return self._out_of_fuel(backtrace)
        return GuestFault("trap", f"the guest trapped: {failure.message[:_MAX_MESSAGE]}", backtrace)

    @property
    def memory_bytes(self) -> int:
        """What its memories began with."""
        return self._component.min_memory_bytes
