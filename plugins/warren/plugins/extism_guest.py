"""A guest of the ABI `extism`: two instances in one store, the plugin's and that of the kernel which it imports.

The kernel's memory counts within the guest's limit. wasmtime limits each memory by itself, so the limit is made smaller
by what the kernel has whenever that grows; it therefore has at most half.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

import wasmtime

from . import bindings
from .bindings import Slots
from .errors import GuestFault, OutsideMemory
from .extism_kernel import EXTISM, KERNEL_MEMORY, KERNEL_PAGES, Dialect, user_export
from .guest import PAGE_BYTES, Guest, Host, Program, guests
from .host_call import AnswerAwaited
from .instance_pool import MAX_TABLE_ELEMENTS, MAX_TABLES

#: Of names and values together, in bytes, as in Extism, with what each variable costs besides.
MAX_VARIABLE_BYTES: Final = 1 << 20
VARIABLE_BYTES: Final = 48


@dataclass(frozen=True, slots=True)
class ExtismProgram(Program):
    """A module that is linked anew for each guest; what is `prepared` is the kernel."""

    linker: wasmtime.Linker | None = None
    linker_address: int = 0
    module: wasmtime.Module | None = None
    module_address: int = 0
    #: The functions of the host's that it imports, in the order of the kernel's exports for them.
    user_functions: tuple[str, ...] = ()
    dialect: Dialect = EXTISM


class ExtismGuest(Guest):
    """See `Guest`; `config` and `data` are set by the ABI, and the rest that is public is for the kernel's calls."""

    def __init__(self, program: ExtismProgram, host: Host, fuel: int, memory_bytes: int, timeout_s: float) -> None:
        super().__init__(program, host, fuel, memory_bytes, timeout_s)
        guests[-self.number] = self  # it takes two slots
        self._linked = program
        self._kernel = Slots()
        self._has_kernel = False
        self._limit_bytes = memory_bytes
        self._limit(KERNEL_PAGES * PAGE_BYTES)
        self.config = b"{}"
        self.settings: Mapping[str, Any] | None = None
        self.data = b""
        #: What the host has answered the kernel, which will take it.
        self.pending = b""
        self.variables: dict[bytes, bytes] = {}
        self.variable_bytes = 0
        self.http_status = 0
        self.http_headers = b""

    def close(self) -> None:
        del guests[-self.number]
        super().close()

    async def instantiate(self) -> None:
        """Make both instances; a `start` function of the plugin runs here."""
        kernel, slots, context, program = self._kernel, self.slots, self.context, self._linked
        future = bindings.instantiate_async(
            program.prepared_address, context, kernel.at_instance, slots.at_trap, slots.at_error
        )
        await self._finish(future)
        name = KERNEL_MEMORY
        self._has_kernel = bindings.instance_export(context, kernel.at_instance, name, len(name), kernel.at_memory)
        linker = bindings.linker_clone(program.linker_address)
        try:
            self._define_kernel(linker)
            future = bindings.linker_instantiate_async(
                linker, context, program.module_address, slots.at_instance, slots.at_trap, slots.at_error
            )
            await self._finish(future)
        finally:
            bindings.linker_delete(linker)
        self._is_instantiated = True
        self._has_memory = bindings.instance_export(context, slots.at_instance, b"memory", 6, slots.at_memory)
        self._known_bytes = program.min_memory_bytes

    def _define_kernel(self, linker: int) -> None:
        kernel, context = self._kernel, self.context
        env, user = self._linked.dialect.env.encode(), self._linked.dialect.user.encode()
        failures = [bindings.linker_define_instance(linker, context, env, len(env), kernel.at_instance)]
        for index, function in enumerate(self._linked.user_functions):
            export, name = user_export(index).encode(), function.encode()
            bindings.instance_export(context, kernel.at_instance, export, len(export), kernel.at_function)
            failures.append(
                bindings.linker_define(linker, context, user, len(user), name, len(name), kernel.at_function)
            )
        for failure in filter(None, failures):
            raise GuestFault(
                "unavailable", f"the sandbox could not link the guest: {bindings.take_error(failure).message}"
            )

    def _limit(self, kernel_bytes: int) -> None:
        rest = max(0, self._limit_bytes - kernel_bytes)
        bindings.store_limiter(self._store, rest, MAX_TABLE_ELEMENTS, 2, MAX_TABLES, 2)

    def before_kernel_grows(self, pages: int) -> None:
        """Make room for it in the limit. Raises `GuestFault` (`out_of_memory`) when there is none."""
        grown = self.kernel_bytes + pages * PAGE_BYTES
        if 2 * grown > self._limit_bytes or self.own_memory_bytes + grown + self.variable_bytes > self._limit_bytes:
            raise self._too_much("Extism's memory")
        self._limit(grown)

    def set_variable(self, name: bytes, value: bytes) -> None:
        """Raises `GuestFault` (`out_of_memory`) when there are too many, or there is no room."""
        self.delete_variable(name)
        size = self.variable_bytes + len(name) + len(value) + VARIABLE_BYTES
        if size > MAX_VARIABLE_BYTES:
            raise GuestFault("out_of_memory", f"the guest's variables take more than {MAX_VARIABLE_BYTES:,} bytes")
        if self.own_memory_bytes + self.kernel_bytes + size > self._limit_bytes:
            raise self._too_much("its variables")
        self.variable_bytes = size
        self.variables[name] = value

    def delete_variable(self, name: bytes) -> None:
        value = self.variables.pop(name, None)
        if value is not None:
            self.variable_bytes -= len(name) + len(value) + VARIABLE_BYTES

    def _too_much(self, what: str) -> GuestFault:
        return GuestFault("out_of_memory", f"the guest wants more for {what} than its limit of memory leaves")

    async def answer_of(self, function: bytes, arguments: bytes) -> bytes:
        """Call a host function for the guest, at its cost, while it does not run itself. Raises `GuestFault`."""
        self.charge(len(arguments))
        answer = self.host.call(function, arguments)
        if not isinstance(answer, bytes):
            answer = await self._awaited(answer)
        self.charge(len(answer))
        return answer

    async def _awaited(self, answer: Coroutine[Any, Any, bytes]) -> bytes:
        taken: list[bytes] = []
        self.host_call = waiting = AnswerAwaited(self, answer, taken.append)
        try:
            while not waiting.step():
                await self._pause()
        finally:
            if not taken:
                waiting.drop()
            self.host_call = None
        return taken[0]

    @property
    def user_functions(self) -> tuple[str, ...]:
        return self._linked.user_functions

    @property
    def own_memory_bytes(self) -> int:
        """Of the plugin's instance, which is what its pointers point into."""
        return super().memory_bytes

    @property
    def kernel_bytes(self) -> int:
        if not self._has_kernel:
            return 0
        return int(bindings.memory_size(self.context, self._kernel.at_memory_item))

    @property
    def memory_bytes(self) -> int:
        """Of the plugin, its kernel and its variables."""
        return self.own_memory_bytes + self.kernel_bytes + self.variable_bytes

    def check_range(self, pointer: int, length: int) -> None:
        """The same as a guest's: of its own memory, and no more."""
        if pointer + length > self._known_bytes:
            self._known_bytes = self.own_memory_bytes
        if pointer + length > self._known_bytes:
            raise OutsideMemory(f"{length:,} bytes at {pointer:,} of {self._known_bytes:,}")

    def read_kernel(self, pointer: int, length: int) -> bytes:
        """Copy out of the kernel's memory. Raises `GuestFault` when the range is not in it."""
        return bindings.bytes_at(self._in_kernel(pointer, length), length)

    def write_kernel(self, pointer: int, data: bytes) -> None:
        """Copy into the kernel's memory. Raises `GuestFault` when the range is not in it."""
        bindings.copy_bytes(self._in_kernel(pointer, len(data)), data, len(data))

    def _in_kernel(self, pointer: int, length: int) -> int:
        size = self.kernel_bytes
        if pointer + length > size:
            raise OutsideMemory(f"{length:,} bytes at {pointer:,} of Extism's {size:,}")
        return int(bindings.memory_data(self.context, self._kernel.at_memory_item)) + pointer
