"""Slots for instances: wasmtime's pooling allocator, which keeps memories, tables and stacks mapped for the next guest.

An instance in a slot that was used before costs no system call; without the pool a request costs more than twice as
much (59 µs instead of 23, measured). What is pooled is address space: a slot is wiped before it is used again, and
instances are as new as ever. The pool reserves four terabytes of addresses, none of it memory, and where they cannot
be had (a limit on address space, strict overcommit) wasmtime does not fail but panics, which would end the process.
So it is tried in a child first, which runs this file by its path and therefore imports nothing of ours.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    sys.path.append(sys.argv[1])  # where wasmtime is installed

import wasmtime
from wasmtime import _bindings as native

#: Guests that can live at once in this process. Whoever comes later waits for one of them to end.
INSTANCE_SLOTS: Final = 1_000

#: How deep plugins can call plugins, and how many more guests there may be at each depth than at the one above. Guests
#: that wait for those they call can therefore never have all the slots: among the deepest there are always some that
#: wait for nobody.
MAX_CALL_DEPTH: Final = 8
CALL_SLOTS: Final = 8

#: A guest may have two instances, and count as two; the last to come may be one too many then.
_ALL_SLOTS: Final = INSTANCE_SLOTS + MAX_CALL_DEPTH * CALL_SLOTS + 1

#: The most that a guest's tables can have together, in elements of 8 bytes, and how many tables that may be.
MAX_TABLE_ELEMENTS: Final = 100_000
MAX_TABLES: Final = 8

_SETTINGS: Final = {
    "total_core_instances": _ALL_SLOTS,
    "total_memories": _ALL_SLOTS,
    "total_tables": _ALL_SLOTS * MAX_TABLES,
    "max_tables_per_module": MAX_TABLES,
    "table_elements": MAX_TABLE_ELEMENTS,
    #: A guest in a host call has a second stack while the host calls its `allocate`.
    "total_stacks": 2 * _ALL_SLOTS,
    "total_gc_heaps": 0,
    #: Every 32-bit memory fits; what a guest may have of it, its store's limiter says.
    "max_memory_size": 1 << 32,
    #: What is wiped by hand, and stays resident, instead of being given back to the system and faulted in anew:
    #: a guest that dirtied 1 MiB costs 26 µs to wipe, and 190 µs to give back.
    "linear_memory_keep_resident": 1 << 20,
    "table_keep_resident": 4 << 10,
    #: So many slots are used before any is used again for another module. What stays resident is bounded by the most
    #: guests that there ever were at once, 1 MiB for each: 1,000 of them that dirtied theirs leave 1 GiB behind.
    "max_unused_warm_slots": 100,
}

#: For the child; it takes a tenth of a second.
_PROBE_LIMIT_S: Final = 30.0


def with_pool(config: wasmtime.Config) -> wasmtime.Config:
    """`config`, with instances in slots."""
    pool = native.wasmtime_pooling_allocation_config_new()
    try:
        for name, value in _SETTINGS.items():
            getattr(native, f"wasmtime_pooling_allocation_config_{name}_set")(pool, value)
        native.wasmtime_pooling_allocation_strategy_set(config.ptr(), pool)
    finally:
        native.wasmtime_pooling_allocation_config_delete(pool)
    return config


@cache
def can_pool() -> bool:
    """Whether the pool can be had on this machine, and under this process's limits."""
    installed = str(Path(wasmtime.__file__).parents[1])
    try:
        probe = subprocess.run(  # noqa: S603 - our own interpreter and file
            [sys.executable, "-I", "-S", __file__, installed], capture_output=True, timeout=_PROBE_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


if __name__ == "__main__":
    wasmtime.Engine(with_pool(wasmtime.Config()))
