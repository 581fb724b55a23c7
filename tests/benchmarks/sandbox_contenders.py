"""Who serves the same requests: wasmtime's public API, Extism's SDK, the bare loop, and Warren, in one process.

Warm contenders keep one instance for all requests, so that what one request leaves behind the next one finds; fresh
ones do not. All but Extism's, which has neither by default, meter fuel and limit memory.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import wasmtime

from tests.benchmarks.sandbox_bare import FUEL, MEMORY_BYTES, BareLoop
from warren.plugins import Plugin

#: One request served; gives the answer. All are coroutines, which costs the others 0.1 µs and makes them alike.
Serve = Callable[[], Awaitable[bytes]]

BARE: Final = "bare loop, fresh"
PUBLIC_WARM: Final = "wasmtime-py, warm"
PUBLIC_FRESH: Final = "wasmtime-py, fresh"
EXTISM_WARM: Final = "Extism, warm"
EXTISM_FRESH: Final = "Extism, fresh"
WARREN: Final = "Warren, fresh"


def bare(wasm: bytes, request: bytes) -> Mapping[str, Serve]:
    """The reference."""
    loop = BareLoop(wasm)

    async def serve() -> bytes:
        return loop.request(request)

    return {BARE: serve}


class _PublicInstance:
    """One instance by wasmtime-py's public API alone."""

    def __init__(self, engine: wasmtime.Engine, prepared: wasmtime.InstancePre) -> None:
        self._store = wasmtime.Store(engine)
        self._store.set_fuel(FUEL)
        self._store.set_limits(memory_size=MEMORY_BYTES)
        exports = prepared.instantiate(self._store).exports(self._store)
        self._memory: Any = exports["memory"]
        self._allocate: Any = exports["allocate"]
        self._handle_request: Any = exports["handle_request"]
        initialize: Any = exports.get("_initialize")
        if initialize is not None:
            initialize(self._store)

    def request(self, data: bytes) -> bytes:
        store = self._store
        store.set_fuel(FUEL)
        pointer = self._allocate(store, len(data))
        self._memory.write(store, data, pointer)
        result = self._handle_request(store, pointer, len(data))
        start = result >> 32
        return bytes(self._memory.read(store, start, start + (result & 0xFFFF_FFFF)))


def public_api(wasm: bytes, request: bytes) -> Mapping[str, Serve]:
    """wasmtime-py as its documentation shows it."""
    config = wasmtime.Config()
    config.consume_fuel = True
    engine = wasmtime.Engine(config)
    prepared = wasmtime.Linker(engine).instantiate_pre(wasmtime.Module(engine, wasm))
    standing = _PublicInstance(engine, prepared)

    async def serve_warm() -> bytes:
        return standing.request(request)

    async def serve_fresh() -> bytes:
        return _PublicInstance(engine, prepared).request(request)

    return {PUBLIC_WARM: serve_warm, PUBLIC_FRESH: serve_fresh}


def extism(wasm: bytes, request: bytes) -> Mapping[str, Serve]:
    """Extism's SDK; nothing where it is not installed. `wasm` is the guest built for Extism."""
    try:
        sdk: Any = importlib.import_module("extism.extism")
    except ImportError:
        return {}
    compiled = sdk.CompiledPlugin(wasm)
    standing = sdk.Plugin(compiled)

    async def serve_warm() -> bytes:
        return bytes(standing.call("handle_request", request))

    async def serve_fresh() -> bytes:
        return bytes(sdk.Plugin(compiled).call("handle_request", request))

    return {EXTISM_WARM: serve_warm, EXTISM_FRESH: serve_fresh}


def warren(plugin: Plugin, request: bytes) -> Serve:
    """A plugin as the worker runs it, all accounts included."""

    async def serve() -> bytes:
        outcome = await plugin.run(request)
        if outcome.kind != "ok":
            raise RuntimeError(f"{plugin.name}: {outcome.error}")
        return outcome.response

    return serve
