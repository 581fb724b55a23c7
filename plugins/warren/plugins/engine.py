"""The engine: what every module in this process is compiled with, and how a checked module becomes a program to run.

Metered by fuel alone. Fuel is the budget of a request and also what cuts a run into slices; epochs would meter the
same code twice (1.3 to 2.6 times the cost, measured) and need a thread to tick them. Proposals that Warren has no use
for are off, so that their bugs are not ours.
"""

from __future__ import annotations

import asyncio
import faulthandler
import sys

import wasmtime

from .bindings import address
from .guest import Program
from .host_imports import define_host_imports


class Engine:
    """One per process is enough; compiled modules belong to the engine that made them."""

    def __init__(self) -> None:
        _enable_faulthandler()
        self._engine = wasmtime.Engine(_configuration())
        self._linker = wasmtime.Linker(self._engine)
        define_host_imports(self._linker)

    async def compile(self, wasm: bytes) -> Program:
        """Compile off the event loop. Raises `wasmtime.WasmtimeError` when the module is not valid."""
        module = await asyncio.to_thread(wasmtime.Module, self._engine, wasm)
        prepared = self._linker.instantiate_pre(module)
        return Program(self._engine, prepared, address(self._engine.ptr()), address(prepared.ptr()))


def _configuration() -> wasmtime.Config:
    config = wasmtime.Config()
    config.consume_fuel = True
    config.wasm_threads = False
    config.wasm_gc = False
    config.wasm_function_references = False
    config.wasm_exceptions = False
    config.wasm_memory64 = False
    config.wasm_multi_memory = False
    config.wasm_wide_arithmetic = False
    config.wasm_stack_switching = False
    config.wasm_custom_page_sizes = False
    return config


def _enable_faulthandler() -> None:
    # Enabled after an engine exists, faulthandler takes over the signals by which wasmtime catches a guest's
    # out-of-bounds access, and the access kills the process. Enabled before, it does no harm, and later calls do
    # nothing.
    if not faulthandler.is_enabled() and sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
