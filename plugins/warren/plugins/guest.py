"""A guest: a brand-new instance in a store of its own, run as a coroutine on the event loop.

A call into the guest is a wasmtime future. Polling it runs the guest for one slice of fuel; between slices the event
loop serves everything else and the deadline is checked. A host function that waits suspends its guest, not the loop.
A guest that is past its deadline, cancelled or in breach is simply not polled again: its future is deleted, which
unwinds it, and its store with it. Nothing is shared between guests, so nothing can outlive one.

Rejected: threads with epoch interruption (a guest call beside a busy Python thread waits for the GIL's switch
interval, 5 ms, measured), and reusing instances (faster through the public API, but state would leak).

No wasmtime call is made here on a guest's word alone: each pointer and length is checked against the memory's size
at that moment, because memory can move and grow between any two calls.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

import wasmtime

from . import bindings
from .backtrace import Lines, described
from .bindings import VALUE_BITS, VALUE_BYTES, Slots
from .errors import GuestFault, OutsideMemory
from .growth import WITNESS_EXPORT
from .instance_pool import CALL_SLOTS, INSTANCE_SLOTS, MAX_CALL_DEPTH, MAX_TABLE_ELEMENTS, MAX_TABLES
from .wasi_process import Process

#: Fuel between two looks at the clock, and so the event loop's longest wait for a busy guest. Measured: 2 M last from
#: 0.1 ms (SHA-256) to 2 ms (a loop that waits for its own stores) and cost 2 to 4 %; 100 k cost 30 %; 1 M cost SHA-256
#: another 5 %; 10 M save 1 to 2 % and last five times as long. The dearest plain code takes 1.5 ns a unit: 3 ms.
SLICE_FUEL: Final = 2_000_000

#: Between two looks for a free slot. Slots belong to the process and waiters to their loops, so nobody can be told.
SLOT_POLL_S: Final = 0.001

PAGE_BYTES: Final = 65_536

_I32: Final = 0xFFFF_FFFF

#: Traps that get a sentence of their own; the others keep wasmtime's words.
_TRAPS: Final = {
    wasmtime.TrapCode.STACK_OVERFLOW: "the guest overflowed its call stack",
    wasmtime.TrapCode.UNREACHABLE: "the guest aborted (unreachable)",
    wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS: "the guest accessed memory out of bounds",
    wasmtime.TrapCode.INTEGER_DIVISION_BY_ZERO: "the guest divided by zero",
}


@dataclass(frozen=True, slots=True)
class Program:
    """What guests are instances of, compiled, with its imports resolved. The addresses are wasmtime's."""

    engine: wasmtime.Engine
    prepared: object
    engine_address: int
    prepared_address: int
    #: What the memory of an instance has at least.
    min_memory_bytes: int
    lines: Lines | None = None


class Host(Protocol):
    """What a guest's imports mean. Both may raise `GuestFault` to end the run, and must raise nothing else."""

    def log(self, level: int, text: bytes) -> None: ...

    def call(self, name: bytes, arguments: bytes) -> bytes | Coroutine[Any, Any, bytes]:
        """The answer for the guest, at once or after waiting."""
        ...

    @property
    def process(self) -> Process:
        """What WASI needs."""
        ...


class Suspension(Protocol):
    """What a guest is suspended in: a host call, or a sleep."""

    def step(self) -> bool:
        """Advance, each time the guest is polled; True once the guest may go on, with `guest.host_call` None again."""
        ...

    async def wait(self, timeout_s: float) -> None:
        """Wait until `step` has something to do, and no longer than that."""
        ...

    def drop(self) -> None:
        """Give up what is held: the run has ended without it. The guest's own future is deleted after this."""
        ...


#: Guests by the number that their store carries: how a callback from wasmtime finds whom it is about.
guests: Final[dict[int, Guest]] = {}
_numbers = itertools.count(1)

#: Slots that the next guests can have: making them anew takes longer than a guest does. All of them are null again.
_spare_slots: Final[list[Slots]] = []


async def free_slot(depth: int) -> None:
    """Return once there is room in this process for one more guest, called at that depth (0: by no plugin)."""
    slots = INSTANCE_SLOTS + CALL_SLOTS * min(depth, MAX_CALL_DEPTH)
    while len(guests) >= slots:  # noqa: ASYNC110 - see `SLOT_POLL_S`
        await asyncio.sleep(SLOT_POLL_S)


def past_deadline(timeout_s: float) -> GuestFault:
    """How a run ends that has lasted longer than it may."""
    return GuestFault("deadline_exceeded", f"the run took longer than its limit of {timeout_s:g} s")


class Guest:
    """One instance and its store. `close` must be called, on every path; nothing else may be called after it."""

    def __init__(self, program: Program, host: Host, fuel: int, memory_bytes: int, timeout_s: float) -> None:
        """`timeout_s` counts from here, over everything the guest does and waits for."""
        self.host = host
        self.fault: GuestFault | None = None
        self.host_call: Suspension | None = None
        self._fuel = fuel
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._program = program
        self.number = number = next(_numbers)
        self.slots = _spare_slots.pop() if _spare_slots else Slots()
        self._store = store = bindings.store_new(program.engine_address, number, None)
        self.context: int = bindings.store_context(store)
        bindings.set_fuel(self.context, fuel)
        bindings.set_yield_interval(self.context, SLICE_FUEL)
        bindings.store_limiter(store, memory_bytes, MAX_TABLE_ELEMENTS, 1, MAX_TABLES, 1)
        self._has_memory = False
        #: What its memory has at least. It never shrinks.
        self._known_bytes = 0
        self._is_instantiated = False
        self._has_failed = False
        #: The fuel at which the slice under way has to end, once a host call has charged some; see `charge`.
        self._slice_floor: int | None = None
        guests[number] = self

    def close(self) -> None:
        del guests[self.number]
        bindings.store_delete(self._store)
        if not self._has_failed:
            _spare_slots.append(self.slots)

    async def instantiate(self) -> None:
        """Make the instance; a `start` function runs here, under the same limits as everything else."""
        slots, context = self.slots, self.context
        future = bindings.instantiate_async(
            self._program.prepared_address, context, slots.at_instance, slots.at_trap, slots.at_error
        )
        if bindings.future_poll(future):
            bindings.future_delete(future)
        else:
            await self._finish_in_slices(future)
        if slots.trap or slots.error:
            raise self._end()
        self._is_instantiated = True
        self._has_memory = bindings.instance_export(context, slots.at_instance, b"memory", 6, slots.at_memory)
        self._known_bytes = self._program.min_memory_bytes

    async def call(self, export: bytes, argument: int = 0, argument_2: int = 0, *, arity: int, results: int = 1) -> int:
        """Call an exported function that takes `arity` i32s; its result as 64 bits, of which an i32 is the lower half.

        The module's check has made sure that the export exists and has just this signature. Most calls end within
        their first slice, and then nothing else happens in between.
        """
        slots, context = self.slots, self.context
        bindings.instance_export(context, slots.at_instance, export, len(export), slots.at_function)
        slots.argument, slots.argument_2 = argument, argument_2
        if self._slice_floor is not None:
            self._begin_slice()
        future = bindings.call_async(
            context,
            slots.at_function_item,
            slots.at_arguments,
            arity,
            slots.at_result,
            results,
            slots.at_trap,
            slots.at_error,
        )
        if bindings.future_poll(future):
            bindings.future_delete(future)
        else:
            await self._finish_in_slices(future)
        if slots.trap or slots.error:
            raise self._end()
        return slots.result

    async def _finish(self, future: int) -> None:
        """Poll what was begun to its end. Raises `GuestFault` when it failed."""
        if bindings.future_poll(future):
            bindings.future_delete(future)
        else:
            await self._finish_in_slices(future)
        if self.slots.trap or self.slots.error:
            raise self._end()

    def _end(self) -> GuestFault:
        """Why a call failed."""
        failure = self._take_failure("trap", "error")
        return self.fault or self._failure(failure)

    async def _finish_in_slices(self, future: int) -> None:
        """Poll a call to its end, between the event loop's other work."""
        self._has_failed = True  # until it has ended
        try:
            while True:
                await self._pause()
                self._begin_slice()
                if bindings.future_poll(future):
                    break
        finally:
            # The inner call's fiber stands on the outer one's: it goes first.
            host_call, self.host_call = self.host_call, None
            if host_call is not None:
                host_call.drop()
            bindings.future_delete(future)
        self._has_failed = False

    def _begin_slice(self) -> None:
        if self._slice_floor is not None:
            self._slice_floor = None
            bindings.set_yield_interval(self.context, SLICE_FUEL)

    async def _pause(self) -> None:
        if self.fault is not None:
            raise self.fault
        remaining_s = self._deadline - time.monotonic()
        if remaining_s <= 0:
            raise past_deadline(self._timeout_s)
        if self.host_call is None:
            await asyncio.sleep(0)
        else:
            await self.host_call.wait(remaining_s)

    def _take_failure(self, trap: str, error: str) -> bindings.Failure:
        self._has_failed = True
        trap_address, error_address = getattr(self.slots, trap), getattr(self.slots, error)
        setattr(self.slots, trap, None)
        setattr(self.slots, error, None)
        return bindings.take_trap(trap_address) if trap_address else bindings.take_error(error_address)

    def _failure(self, failure: bindings.Failure) -> GuestFault:
        backtrace = tuple(described(frame, self._program.lines) for frame in failure.frames)
        if failure.code is None:
            return GuestFault("unavailable", f"the sandbox could not run the guest: {failure.message}")
        if failure.code is wasmtime.TrapCode.OUT_OF_FUEL:
            return self._out_of_fuel(backtrace)
        if refused_bytes := self.refused_bytes:
            reason = f"the guest was refused {refused_bytes:,} more bytes of memory than its limit allows, and gave up"
            return GuestFault("out_of_memory", reason, backtrace)
        reason = _TRAPS.get(failure.code, f"the guest trapped: {failure.message}")
        return GuestFault("trap", reason, backtrace)

    def _out_of_fuel(self, backtrace: tuple[str, ...]) -> GuestFault:
        return GuestFault("out_of_fuel", f"the guest used up its {self._fuel:,} units of fuel", backtrace)

    def read_global(self, export: str) -> bytes | None:
        """The bits of an exported global, little end first, as many as its type has; None when it is not there.

        None for a reference, too.
        """
        # Without an instance there is nothing to ask, and asking aborts the process: a `start` function can trap.
        name, slots = export.encode(), self.slots
        if not self._is_instantiated or not bindings.instance_export(
            self.context, slots.at_instance, name, len(name), slots.at_function
        ):
            return None
        bindings.global_get(self.context, slots.at_function_item, slots.at_result)
        kind = slots.result_kind & 0xFF
        if kind >= len(VALUE_BYTES):
            return None
        return bindings.bytes_at(slots.at_result + VALUE_BITS, VALUE_BYTES[kind])

    @property
    def refused_bytes(self) -> int:
        """The largest growth of memory that the limit refused this guest (see `growth`), in bytes."""
        refused_pages = self.read_global(WITNESS_EXPORT)
        return 0 if refused_pages is None else int.from_bytes(refused_pages, "little") * PAGE_BYTES

    @property
    def fuel_used(self) -> int:
        return self._fuel - self._fuel_left()

    def _fuel_left(self) -> int:
        bindings.get_fuel(self.context, self.slots.at_fuel)
        return self.slots.fuel

    def charge(self, fuel: int, *, slice_fuel: int = 0) -> None:
        """Take fuel for work that the host does. What is not there is not taken, and the guest stops at its next step.

        To set the fuel begins a new slice, so a guest that calls often would never pause: the slice under way is told
        to end where it would have ended, or earlier by `slice_fuel`.
        """
        fuel_left = self._fuel_left()
        self._set_fuel(fuel_left, max(0, fuel_left - fuel), slice_fuel)

    def _set_fuel(self, before: int, fuel: int, slice_fuel: int) -> None:
        if self._slice_floor is None:
            self._slice_floor = before - SLICE_FUEL
        self._slice_floor += slice_fuel
        bindings.set_fuel(self.context, fuel)
        bindings.set_yield_interval(self.context, max(1, fuel - self._slice_floor))

    def give_back(self, fuel: int, *, slice_fuel: int) -> int:
        """Give back what a tool of the host's own took, a host call that the guest knows nothing of; the fuel used.

        A guest that has none left gets none: it may have used more than it had, which only shows at its next step.
        """
        fuel_left = self._fuel_left()
        if fuel_left:
            self._set_fuel(fuel_left, fuel_left + fuel, slice_fuel)
            fuel_left += fuel
        return self._fuel - fuel_left

    @property
    def memory_bytes(self) -> int:
        """The memory's size now, which is its peak: a linear memory never shrinks."""
        return int(bindings.memory_size(self.context, self.slots.at_memory_item)) if self._has_memory else 0

    def read(self, pointer: int, length: int) -> bytes:
        """Copy out of the guest's memory. Raises `GuestFault` when the range is not in it."""
        self.check_range(pointer, length)
        return bindings.bytes_at(bindings.memory_data(self.context, self.slots.at_memory_item) + pointer, length)

    def whole_memory(self) -> bytes:
        """A copy of its memory as it is now; nothing where there is none."""
        if not self._has_memory:
            return b""
        item = self.slots.at_memory_item
        return bindings.bytes_at(bindings.memory_data(self.context, item), bindings.memory_size(self.context, item))

    def write(self, pointer: int, data: bytes) -> None:
        """Copy into the guest's memory. Raises `GuestFault` when the range is not in it."""
        self.check_range(pointer, len(data))
        bindings.copy_bytes(bindings.memory_data(self.context, self.slots.at_memory_item) + pointer, data, len(data))

    def check_range(self, pointer: int, length: int) -> None:
        """Raises `GuestFault` when the range is not in the guest's memory."""
        if pointer + length > self._known_bytes:
            self._known_bytes = self.memory_bytes
        if pointer + length > self._known_bytes:
            raise OutsideMemory(f"{length:,} bytes at {pointer:,} of {self._known_bytes:,}")

    def enter_host_call(self, caller: Any) -> None:
        """Take from the caller what a host call needs: during a `start` function there is no instance yet to ask."""
        if not self._has_memory:
            self._has_memory = bindings.caller_export(caller, b"memory", 6, self.slots.at_memory)
        bindings.caller_export(caller, b"allocate", 8, self.slots.at_inner_function)

    def begin_allocate(self, size: int) -> int:
        """Call the guest's `allocate` from within its host call; gives the future."""
        slots = self.slots
        slots.inner_argument = size
        return int(
            bindings.call_async(
                self.context,
                slots.at_inner_function_item,
                slots.at_inner_argument,
                1,
                slots.at_inner_result,
                1,
                slots.at_inner_trap,
                slots.at_inner_error,
            )
        )

    def end_allocate(self) -> int:
        """The pointer that `allocate` gave. Raises `GuestFault` when it trapped."""
        if self.slots.inner_trap or self.slots.inner_error:
            raise self._failure(self._take_failure("inner_trap", "inner_error"))
        return self.slots.inner_result & _I32
