"""Compiling untrusted modules: each in a process of its own under limits, or not at all when its artefact is cached.

A module that is hostile to the compiler costs a child process, the limits' worth of time and memory, and nothing else.
One child compiles one module, so that no module meets what another left behind. The artefact comes back through a
pipe and stays in memory: a file on the way could be changed.

What is believed, then, is wasmtime's compiler. A module that took over the child could hand back machine code of its
own; no limit helps against that, here or in the worker.

Rejected: a pool of children (state would be shared, for the 50 ms that starting one costs); a thread (it cannot be
stopped, and shares the worker's memory).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import wasmtime

from . import compile_child
from .artefacts import ArtefactCache
from .configuration import SETTINGS
from .errors import CompilationFailed, ModuleRefused, PluginError


@dataclass(frozen=True, slots=True)
class CompileLimits:
    """What compiling one module may take. esbuild, of 20 MB, took 22 s and 516 MB, measured."""

    #: Processor time, in whole seconds.
    cpu_s: int = 60
    #: Address space of the compiling process, 60 MB of which it needs for itself.
    memory_bytes: int = 1 << 30
    #: Wall-clock time, which also passes while others have the processor.
    timeout_s: float = 120.0


DEFAULT_LIMITS: Final = CompileLimits()


class Compiler:
    """Compiles for every engine with the settings of `configuration`. It belongs to one event loop."""

    def __init__(
        self,
        cache: ArtefactCache | None = None,
        *,
        limits: CompileLimits = DEFAULT_LIMITS,
        settings: Mapping[str, bool] = SETTINGS,
    ) -> None:
        """Without a cache, everything is compiled each time."""
        self._cache = cache
        self._settings = settings
        self._limits = limits
        self._places = asyncio.Semaphore(len(os.sched_getaffinity(0)))
        self._under_way: dict[bytes, _Job] = {}

    async def compile(self, wasm: bytes) -> bytes:
        """The artefact of a module, for `Module.deserialize`. The same module asked for twice at once compiles once.

        Raises `ModuleRefused` when it is the module's fault, else `CompilationFailed`. When everybody who waits for it
        is cancelled, so is the compilation.
        """
        job = self._under_way.get(wasm)
        if job is None:
            job = self._under_way[wasm] = _Job(asyncio.create_task(self._produce(wasm)))
        job.waiting += 1
        try:
            return await asyncio.shield(job.task)
        finally:
            job.waiting -= 1
            if not job.waiting:
                del self._under_way[wasm]
                await job.abandon()

    async def _produce(self, wasm: bytes) -> bytes:
        if self._cache is not None:
            cached = await asyncio.to_thread(self._cache.get, wasm)
            if cached is not None:
                return cached
        async with self._places:
            artefact = await _compile_in_child(wasm, self._settings, self._limits)
        if self._cache is not None:
            await asyncio.to_thread(self._cache.put, wasm, artefact)
        return artefact


class _Job:
    """A compilation under way, and how many wait for it."""

    def __init__(self, task: asyncio.Task[bytes]) -> None:
        self.task = task
        self.waiting = 0

    async def abandon(self) -> None:
        """Stop it, if it has not ended; its child is gone when this returns."""
        if not self.task.done():
            self.task.cancel()
            await asyncio.wait({self.task})


async def _compile_in_child(wasm: bytes, settings: Mapping[str, bool], limits: CompileLimits) -> bytes:
    process = await _start(wasm, settings, limits)
    try:
        async with asyncio.timeout(limits.timeout_s):
            artefact, words = await process.communicate(wasm)
    except TimeoutError:
        reason = f"the module was not compiled within {limits.timeout_s:g} s; perhaps this machine has too much to do"
        raise CompilationFailed(reason) from None
    finally:
        await _end(process)
    if process.returncode != 0:
        raise _failure(process.returncode or 0, _sentence(words), limits)
    return artefact


async def _start(wasm: bytes, settings: Mapping[str, bool], limits: CompileLimits) -> Process:
    order = {
        "parent": os.getpid(),
        "wasm_bytes": len(wasm),
        "settings": dict(settings),
        "cpu_s": limits.cpu_s,
        "memory_bytes": limits.memory_bytes,
    }
    packages = Path(wasmtime.__path__[0]).parent
    command = [sys.executable, "-I", "-S", str(compile_child.__file__), str(packages), json.dumps(order)]
    # Some interpreters do not start without this one.
    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    try:
        # In a session of its own: Ctrl-C is the worker's to handle.
        return await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment, cwd="/", start_new_session=True
        )
    except OSError as error:
        raise CompilationFailed(f"no process to compile the module in could be started: {error}") from error


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        # Not `wait`: the pipes have to be read to their end, or their transports stay open.
        await process.communicate()


#: Signals by which a program ends itself; by the others it is ended.
_CRASHES: Final = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGTRAP}

#: What Rust says before it aborts for want of memory.
_OUT_OF_MEMORY: Final = "memory allocation of"


def _failure(code: int, words: str, limits: CompileLimits) -> PluginError:
    """What an exit code of the child, or a signal as a negative one, and its words mean."""
    if code == compile_child.REFUSED:
        return ModuleRefused(f"the module does not compile: {words}")
    if code == compile_child.OUT_OF_MEMORY or (code == -signal.SIGABRT and words.startswith(_OUT_OF_MEMORY)):
        return ModuleRefused(f"the module takes more than {limits.memory_bytes:,} bytes of memory to compile")
    if code == -signal.SIGXCPU:
        return ModuleRefused(f"the module takes more than {limits.cpu_s} s of processor time to compile")
    if -code in _CRASHES:
        return ModuleRefused(f"the module makes the compiler crash ({signal.Signals(-code).name}): {words}")
    if code < 0:
        return CompilationFailed(f"the process that compiled the module was killed by signal {-code}")
    return CompilationFailed(f"the process that compiles modules ended with exit code {code}: {words}")


def _sentence(words: bytes) -> str:
    """Words of the child on one line and of bounded length; part of them can be the module's author's."""
    line = " ".join(words.decode(errors="replace").split()) or "it said nothing"
    return "".join(character if character.isprintable() else "?" for character in line[:500])
