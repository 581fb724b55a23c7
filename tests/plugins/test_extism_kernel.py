"""The kernel of Extism plugins against a model: blocks keep what was written to them, whatever else comes and goes."""

from __future__ import annotations

from typing import Any, Final

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from warren.plugins.extism_kernel import ENV_SIGNATURES, HOST, HOST_SIGNATURES, KERNEL_PAGES, kernel_module
from warren.plugins.guest import PAGE_BYTES

ENGINE: Final = wasmtime.Engine()


class Kernel:
    """A kernel by itself, whose memory may grow, and whose host has nothing to tell."""

    def __init__(self) -> None:
        self.store = wasmtime.Store(ENGINE)
        self.pages = KERNEL_PAGES
        linker = wasmtime.Linker(ENGINE)
        types = {"i32": wasmtime.ValType.i32, "i64": wasmtime.ValType.i64}
        for name, signature in HOST_SIGNATURES.items():
            params, results = ([types[each]() for each in side] for side in (signature.params, signature.results))
            call = self.grow if name == "grow" else self.refuse
            linker.define_func(HOST, name, wasmtime.FuncType(params, results), call)
        self.exports = linker.instantiate(self.store, kernel_module(ENGINE, 0, "")).exports(self.store)

    def grow(self, pages: int) -> None:
        self.pages += pages

    def refuse(self, *_arguments: int) -> Any:
        pytest.fail("the kernel asked its host for what it was not asked for")

    def __call__(self, name: str, *arguments: int) -> Any:
        function = self.exports[name]
        assert isinstance(function, wasmtime.Func)
        return function(self.store, *arguments)


def test_it_has_all_that_a_plugin_may_import_and_with_the_same_types() -> None:
    found = {each.name: each.type for each in kernel_module(ENGINE, 2, "").exports}
    for name, signature in ENV_SIGNATURES.items():
        kind = found[name]
        assert isinstance(kind, wasmtime.FuncType)
        assert (tuple(map(str, kind.params)), tuple(map(str, kind.results))) == (signature.params, signature.results)
    assert found.keys() - ENV_SIGNATURES.keys() == {"kernel", "user 0", "user 1"}


#: The length of a block to make, or which of those that there are to free.
STEPS: Final = st.lists(
    st.one_of(
        st.integers(1, 400).map(lambda length: ("alloc", length)),
        st.integers(1, 3 * PAGE_BYTES).map(lambda length: ("alloc", length)),
        st.integers(0, 1 << 20).map(lambda which: ("free", which)),
    ),
    max_size=60,
)


@given(STEPS)
def test_blocks_keep_what_was_written_to_their_ends(steps: list[tuple[str, int]]) -> None:
    kernel = Kernel()
    blocks: dict[int, tuple[int, int]] = {}
    for number, (step, value) in enumerate(steps):
        if step == "alloc":
            handle = kernel("alloc", value)
            assert handle % 8 == 0
            assert handle not in blocks
            mark = number % 255 + 1
            kernel("store_u8", handle, mark)
            kernel("store_u8", handle + value - 1, mark)
            blocks[handle] = value, mark
        elif blocks:
            handle = list(blocks)[value % len(blocks)]
            del blocks[handle]
            kernel("free", handle)
            kernel("free", handle)
            assert kernel("length", handle) == 0
        for handle, (length, mark) in blocks.items():
            assert kernel("length", handle) == length
            assert (kernel("load_u8", handle), kernel("load_u8", handle + length - 1)) == (mark, mark)
    memory = kernel.exports["kernel"]
    assert isinstance(memory, wasmtime.Memory)
    assert memory.size(kernel.store) == kernel.pages


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_whatever_is_given_for_a_handle_is_a_block_or_none(handle: int) -> None:
    kernel = Kernel()
    block = kernel("alloc", 24)
    assert kernel("length", handle) == (24 if handle == block else 0)
    kernel("free", handle)
    if 0 <= handle <= PAGE_BYTES - 8:
        kernel("load_u64", handle)
        return
    with pytest.raises(wasmtime.Trap) as caught:
        kernel("load_u64", handle)
    assert caught.value.trap_code is wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS
