"""The reference: a fresh store, instance and request with nothing around it, over the raw C functions.

This is as fast as Python gets at what Warren promises (an instance per request, a fuel budget, slices of it, a
deadline): no checks of what the guest gives, no host functions, no accounts, and one guest at a time. It shares no code
with Warren, so that it stays what it is while Warren changes.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from ctypes import c_bool, c_char_p, c_int64, c_size_t, c_uint64, c_void_p
from typing import Any, Final

import wasmtime
from wasmtime import _bindings as native
from wasmtime import _ffi

FUEL: Final = 100_000_000
SLICE_FUEL: Final = 1_000_000
MEMORY_BYTES: Final = 64 << 20
TIMEOUT_S: Final = 30.0

_POOL: Final = {
    "total_core_instances": 100,
    "total_memories": 100,
    "total_tables": 100,
    "total_stacks": 100,
    "max_memory_size": MEMORY_BYTES,
    "linear_memory_keep_resident": 1 << 20,
    "table_keep_resident": 4 << 10,
    "max_unused_warm_slots": 100,
}

_running = ctypes.CDLL(str(_ffi.filename))
_holding = ctypes.PyDLL(str(_ffi.filename))  # keeps the GIL: for calls that run no guest


def _function(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    function = getattr(library, f"wasmtime_{name}")
    function.restype, function.argtypes = result, list(arguments)
    return function  # type: ignore[no-any-return]


_poll = _function(_running, "call_future_poll", c_bool, c_void_p)
_future_delete = _function(_running, "call_future_delete", None, c_void_p)
_store_delete = _function(_running, "store_delete", None, c_void_p)
_store_new = _function(_holding, "store_new", c_void_p, *[c_void_p] * 3)
_store_context = _function(_holding, "store_context", c_void_p, c_void_p)
_store_limiter = _function(_holding, "store_limiter", None, c_void_p, *[c_int64] * 5)
_set_fuel = _function(_holding, "context_set_fuel", c_void_p, c_void_p, c_uint64)
_get_fuel = _function(_holding, "context_get_fuel", c_void_p, c_void_p, c_void_p)
_set_yield_interval = _function(_holding, "context_fuel_async_yield_interval", c_void_p, c_void_p, c_uint64)
_instantiate = _function(_holding, "instance_pre_instantiate_async", c_void_p, *[c_void_p] * 5)
_call_arguments = (c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p)
_call = _function(_holding, "func_call_async", c_void_p, *_call_arguments)
_export = _function(_holding, "instance_export_get", c_bool, c_void_p, c_void_p, c_char_p, c_size_t, c_void_p)
_memory_data = _function(_holding, "memory_data", c_void_p, c_void_p, c_void_p)


class _Slots(ctypes.Structure):
    """What wasmtime reads and writes during a request. Zeroed, so every argument is an i32."""

    _fields_ = (
        ("instance", native.wasmtime_instance_t),
        ("memory", native.wasmtime_extern_t),
        ("function", native.wasmtime_extern_t),
        ("arguments", native.wasmtime_val_t * 2),
        ("result", native.wasmtime_val_t),
        ("trap", c_void_p),
        ("error", c_void_p),
        ("fuel", c_uint64),
    )


class BareLoop:
    """One module without imports, of the ABI `core`. Keep it as long as its requests run."""

    def __init__(self, wasm: bytes) -> None:
        engine = wasmtime.Engine(_configuration())
        module = wasmtime.Module(engine, wasm)
        prepared = wasmtime.Linker(engine).instantiate_pre(module)
        self._kept_alive = (engine, prepared)
        self._engine, self._prepared = _address(engine.ptr()), _address(prepared.ptr())
        self._has_initialize = any(export.name == "_initialize" for export in module.exports)
        self._slots = slots = _Slots()
        base = ctypes.addressof(slots)
        self._instance, self._result = base + _Slots.instance.offset, base + _Slots.result.offset
        self._memory, self._function = base + _Slots.memory.offset, base + _Slots.function.offset
        self._arguments, self._fuel = base + _Slots.arguments.offset, base + _Slots.fuel.offset
        self._trap, self._error = base + _Slots.trap.offset, base + _Slots.error.offset
        self._first, self._second = slots.arguments[0].of, slots.arguments[1].of
        self._deadline = 0.0
        self.fuel_left = 0

    def request(self, data: bytes) -> bytes:
        """The answer of a fresh instance."""
        self._deadline = time.monotonic() + TIMEOUT_S
        store = _store_new(self._engine, None, None)
        try:
            context = _store_context(store)
            _set_fuel(context, FUEL)
            _set_yield_interval(context, SLICE_FUEL)
            _store_limiter(store, MEMORY_BYTES, 10_000, 1, 4, 1)
            self._finish(_instantiate(self._prepared, context, self._instance, self._trap, self._error))
            _export(context, self._instance, b"memory", 6, self._memory)
            if self._has_initialize:
                self._run(context, b"_initialize", 0, 0)
            self._first.i32 = length = len(data)
            self._run(context, b"allocate", 1, 1)
            pointer = self._slots.result.of.i32 & 0xFFFF_FFFF
            ctypes.memmove(_memory_data(context, self._memory + 8) + pointer, data, length)
            self._first.i32, self._second.i32 = pointer, length
            self._run(context, b"handle_request", 2, 1)
            result = self._slots.result.of.i64
            start = _memory_data(context, self._memory + 8) + (result >> 32 & 0xFFFF_FFFF)
            answer = ctypes.string_at(start, result & 0xFFFF_FFFF)
            _get_fuel(context, self._fuel)
            self.fuel_left = self._slots.fuel
            return answer
        finally:
            _store_delete(store)

    def _run(self, context: int, export: bytes, arguments: int, results: int) -> None:
        _export(context, self._instance, export, len(export), self._function)
        # The item of an extern lies eight bytes behind its kind.
        function, given, result = self._function + 8, self._arguments, self._result
        self._finish(_call(context, function, given, arguments, result, results, self._trap, self._error))

    def _finish(self, future: int) -> None:
        try:
            while not _poll(future):
                if time.monotonic() > self._deadline:
                    raise TimeoutError
        finally:
            _future_delete(future)
        if self._slots.trap or self._slots.error:
            raise RuntimeError("the guest trapped")


def _configuration() -> wasmtime.Config:
    config = wasmtime.Config()
    config.consume_fuel = True
    pool = native.wasmtime_pooling_allocation_config_new()
    for name, value in _POOL.items():
        getattr(native, f"wasmtime_pooling_allocation_config_{name}_set")(pool, value)
    native.wasmtime_pooling_allocation_strategy_set(config.ptr(), pool)
    native.wasmtime_pooling_allocation_config_delete(pool)
    return config


def _address(pointer: Any) -> int:
    return ctypes.cast(pointer, c_void_p).value or 0
