"""The engine: how a checked module becomes a program to run.

There is one wasmtime engine per process for core modules, with one pool of instance slots, whoever asks: a pool's
addresses are too many to have several; and one for components, without a pool, once there is one. What was compiled
belongs to them for good.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Final

import wasmtime
from wasmtime.component import Component

from .artefacts import ArtefactCache
from .bindings import address
from .compiler import Compiler
from .component_binary import ComponentInfo
from .component_guest import ComponentProgram
from .component_imports import import_types, linker_for
from .component_types import check_types
from .configuration import COMPONENT_SETTINGS, configuration, fingerprint
from .debugging import define_profile_imports
from .errors import ModuleRefused
from .extism_calls import define_kernel_imports
from .extism_guest import ExtismProgram
from .extism_kernel import Dialect, kernel_module
from .guest import PAGE_BYTES, Program
from .host_imports import define_host_imports
from .instance_pool import can_pool, with_pool
from .wasi import define_wasi_imports

_log = logging.getLogger(__name__)

#: Characters of what wasmtime says of a module.
_MAX_MESSAGE: Final = 500


class Engine:
    """Compiles modules, by way of a cache of compiled ones in the folder `cache` (none when it is None)."""

    def __init__(self, cache: Path | None = None) -> None:
        self._engine, self._linker = _of_this_process()
        self._cache = cache
        self._compiler = Compiler(self._artefacts(self._engine))

    def _artefacts(self, engine: wasmtime.Engine) -> ArtefactCache | None:
        return None if self._cache is None else ArtefactCache(self._cache, fingerprint(engine))

    @cached_property
    def _component_compiler(self) -> Compiler:
        return Compiler(self._artefacts(_for_components()), settings=COMPONENT_SETTINGS)

    async def compile(self, wasm: bytes) -> Program:
        """Compile, in a process of its own. Raises `ModuleRefused` or `CompilationFailed`."""
        artefact = await self._compiler.compile(wasm)
        with _refusing():
            module = wasmtime.Module.deserialize(self._engine, artefact)
            prepared = self._linker.instantiate_pre(module)
        return Program(
            self._engine, prepared, address(self._engine.ptr()), address(prepared.ptr()), _min_memory_bytes(module)
        )

    async def compile_for_extism(self, wasm: bytes, user_functions: tuple[str, ...], dialect: Dialect) -> ExtismProgram:
        """The same for a module that imports Extism's kernel, and these functions of the host's."""
        artefact = await self._compiler.compile(wasm)
        with _refusing():
            module = wasmtime.Module.deserialize(self._engine, artefact)
        kernel = _kernel(self._engine, len(user_functions), dialect.prefix)
        return ExtismProgram(
            self._engine,
            kernel,
            address(self._engine.ptr()),
            address(kernel.ptr()),
            _min_memory_bytes(module),
            linker=self._linker,
            linker_address=address(self._linker.ptr()),
            module=module,
            module_address=address(module.ptr()),
            user_functions=user_functions,
            dialect=dialect,
        )

    async def compile_component(
        self, wasm: bytes, info: ComponentInfo, exports: Mapping[str, Mapping[str, str]]
    ) -> ComponentProgram:
        """The same for a component; `exports` are the functions that will be called, with their types."""
        artefact = await self._component_compiler.compile(wasm)
        # In a thread: CPython's 37 MB take 0.2 s.
        return await asyncio.to_thread(_component_program, artefact, info, exports)


def _component_program(
    artefact: bytes, info: ComponentInfo, exports: Mapping[str, Mapping[str, str]]
) -> ComponentProgram:
    engine = _for_components()
    with _refusing():
        component = Component.deserialize(engine, artefact)
        check_types(engine, component.type, import_types(info.imports), exports)
        linker = linker_for(engine, component, info.imports)
    functions = {
        (interface, name): index
        for interface, functions in exports.items()
        if (instance := component.get_export_index(interface)) is not None
        for name in functions
        if (index := component.get_export_index(name, instance)) is not None
    }
    return ComponentProgram(
        engine,
        (component, linker),
        address(engine.ptr()),
        address(component.ptr()),
        info.min_memory_bytes,
        linker_address=address(linker.ptr()),
        functions=functions,
        memories=info.memories,
        little_bytes=info.little_bytes,
    )


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except wasmtime.WasmtimeError as error:
        # The compiling process has no pool, and so cannot tell what does not fit into a slot of it.
        # Names in what it says are the module's, and can be as long.
        reason = " ".join(str(error).split())[:_MAX_MESSAGE]
        raise ModuleRefused(f"the module cannot be instantiated here: {reason}") from error


@cache
def _kernel(engine: wasmtime.Engine, user_functions: int, prefix: str) -> wasmtime.InstancePre:
    linker = wasmtime.Linker(engine)
    define_kernel_imports(linker)
    return linker.instantiate_pre(kernel_module(engine, user_functions, prefix))


def _min_memory_bytes(module: wasmtime.Module) -> int:
    memories = (each.type for each in module.exports if each.name == "memory")
    return sum(each.limits.min * PAGE_BYTES for each in memories if isinstance(each, wasmtime.MemoryType))


@cache
def _of_this_process() -> tuple[wasmtime.Engine, wasmtime.Linker]:
    _enable_faulthandler()
    # With this set, wasmtime reads a guest's debug information at each trap: 78 kB of it took 4 s and 880 MB.
    os.environ.pop("WASMTIME_BACKTRACE_DETAILS", None)
    if can_pool():
        engine = wasmtime.Engine(with_pool(configuration()))
    else:
        _log.warning("no pool of instances can be had here (is the address space limited?): each request costs more")
        engine = wasmtime.Engine(configuration())
    linker = wasmtime.Linker(engine)
    define_host_imports(linker)
    define_wasi_imports(linker)
    define_profile_imports(linker)
    return engine, linker


@cache
def _for_components() -> wasmtime.Engine:
    _of_this_process()  # first: it sets up what concerns the whole process
    return wasmtime.Engine(configuration(COMPONENT_SETTINGS))


def _enable_faulthandler() -> None:
    # Enabled after an engine exists, faulthandler takes over the signals by which wasmtime catches a guest's access
    # out of bounds, and the access kills the process. Enabled before, it does no harm, and later calls do nothing.
    if not faulthandler.is_enabled() and sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
