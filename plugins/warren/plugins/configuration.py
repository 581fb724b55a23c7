"""What code is compiled for, as data: the one place where the settings of wasmtime stand.

Compiled code runs only in an engine with the settings that it was compiled with, and modules are compiled in another
process than they run in. So the settings are a table which both are given: the child as JSON on its command line, with
no import of ours. What does not change the code, such as how instances are allocated, is the engine's own affair.

Components have settings of their own: what wasmtime puts between two components copies from memory to memory. No core
module of a plugin may have two memories all the same.

Metered by fuel alone. Fuel is the budget of a request and also what cuts a run into slices; epochs would meter the
same code twice (1.3 to 2.6 times the cost, measured) and need a thread to tick them. Proposals that Warren has no use
for are off, so that their bugs are not ours.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import wasmtime

from .compile_child import configured

#: As wasmtime's C API names them. Its other defaults depend on the wasmtime version and the processor alone.
SETTINGS: Final[Mapping[str, bool]] = MappingProxyType(
    {
        "consume_fuel": True,
        "wasm_threads": False,
        "wasm_gc": False,
        # And no collector: there is nothing for an externref to refer to, and slots have no room for its heap.
        "gc_support": False,
        "wasm_function_references": False,
        "wasm_exceptions": False,
        "wasm_memory64": False,
        "wasm_multi_memory": False,
        "wasm_wide_arithmetic": False,
        "wasm_stack_switching": False,
        "wasm_custom_page_sizes": False,
        "wasm_component_model_async": False,
        "concurrency_support": False,
    }
)

COMPONENT_SETTINGS: Final[Mapping[str, bool]] = MappingProxyType({**SETTINGS, "wasm_multi_memory": True})

_EMPTY_MODULE: Final = b"\0asm\1\0\0\0"


def configuration(settings: Mapping[str, bool] = SETTINGS) -> wasmtime.Config:
    """A new configuration with these settings, for the engine to add to what does not change the code."""
    return configured(settings)


def fingerprint(engine: wasmtime.Engine) -> str:
    """Everything that code compiled for this engine depends on, as a hash: equal where artefacts can be shared.

    It is taken of what the engine makes of an empty module: wasmtime writes every setting and the processor's features
    into each artefact, so that nothing is forgotten here. The version it writes lacks the patch level. Takes 0.5 ms.
    """
    probe = wasmtime.Module(engine, _EMPTY_MODULE).serialize()
    return hashlib.sha256(importlib.metadata.version("wasmtime").encode() + probe).hexdigest()
