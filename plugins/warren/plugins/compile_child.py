"""The process that compiles one untrusted module and ends: wasm on stdin, artefact on stdout, a sentence on stderr.

A component is compiled as well, all of it.

Compiling is where a hostile module is dangerous: a few kilobytes can ask for seconds and gigabytes, and a fault in the
compiler is a fault of the process. So it happens here, under limits that the process puts on itself before it reads a
byte of the module. When the parent dies, so does it.

It is run by its path, because `-m` would import the whole of `warren.plugins`, and with `-I -S` in an empty
environment, so that no start-up code and no variable has a say. So it is ready in 50 ms. Its command line tells the
folder in which to find wasmtime and, as one JSON object, all else it must know. A fork of the worker would start
sooner, but with the worker's memory and connections in it.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Final

if __name__ == "__main__":
    sys.path.append(sys.argv[1])  # last, as `site` would have it

import wasmtime
from wasmtime import _bindings as native

#: Exit codes. With the first goes a sentence on stderr: what is wrong with the module.
REFUSED: Final = 65
OUT_OF_MEMORY: Final = 71

#: `prctl`'s number for: send me this signal when my parent dies.
_PR_SET_PDEATHSIG: Final = 1

#: The half of its version by which a component is told from a core module.
_COMPONENT_LAYER: Final = b"\1\0"

#: How wasmtime words that it was given no memory.
_ENOMEM: Final = "os error 12"


def configured(settings: Mapping[str, bool]) -> wasmtime.Config:
    """A new configuration with these settings, named as in wasmtime's C API: Python's has not all of them."""
    config = wasmtime.Config()
    for name, value in settings.items():
        getattr(native, f"wasmtime_config_{name}_set")(config.ptr(), value)
    return config


def main(argument: str) -> int:
    order = json.loads(argument)
    _die_with(order["parent"])
    _limit(order["cpu_s"], order["memory_bytes"])
    try:
        wasm = sys.stdin.buffer.read()
        if len(wasm) != order["wasm_bytes"]:
            return 1  # the parent died while it wrote
        artefact = _compiled(wasm, order["settings"])
    except MemoryError:
        return OUT_OF_MEMORY
    except wasmtime.WasmtimeError as error:
        sys.stderr.write(str(error))
        return OUT_OF_MEMORY if _ENOMEM in str(error) else REFUSED
    sys.stdout.buffer.write(artefact)
    sys.stdout.buffer.flush()
    return 0


def _compiled(wasm: bytes, settings: Mapping[str, bool]) -> bytearray:
    config = configured(settings)
    # In one thread, so that time and memory are the module's alone and do not depend on the machine's cores. The code
    # is the same. Several modules compile side by side, each in a process of its own.
    config.parallel_compilation = False
    engine = wasmtime.Engine(config)
    if wasm[6:8] == _COMPONENT_LAYER:
        from wasmtime.component import Component  # noqa: PLC0415 - core modules do without

        return Component(engine, wasm).serialize()
    return wasmtime.Module(engine, wasm).serialize()


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # it died before that


def _limit(cpu_s: int, memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    # No core dump, no file written, no other process or thread.
    for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
        resource.setrlimit(what, (0, 0))


if __name__ == "__main__":
    sys.exit(main(sys.argv[2]))
