"""The two rewritings of a module that a snapshot takes: one that shows its state, and one that begins with it.

Neither touches code, types, functions, tables or element segments, so no index changes, and names, DWARF and branch
hints stay right. What they have to read, they read through `wasm_binary`; validation is wasmtime's and comes after.

A module with its state baked in keeps the positions of its data segments, because `memory.init` names them: passive
ones stay what and where they are, and the active ones, which count as dropped once a module is instantiated, give
their places to the snapshot's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from .errors import ModuleRefused
from .instructions import skip_instruction
from .module import DEFAULT_LIMITS, ModuleInfo, read_module, shown
from .snapshot_code import check_code
from .wasm_binary import Reader, Section, leb128, section_reader, signed_leb128, sized, with_contents, with_entries

#: Followed by a global's index: how the instrumented module exports it.
GLOBAL_EXPORT: Final = "warren:global:"

#: What initialises a module, and is no longer there in one that begins initialised.
_INITIALIZERS: Final = ("_initialize", "initialize")

#: The imports whose use by an initialisation is understood: `log` is harmless, and `host_call` is refused when it
#: happens. Whoever provides another import decides here whether a snapshot may be taken of what it does.
_UNDERSTOOD_IMPORTS: Final = frozenset({("warren_v1", "log"), ("warren_v1", "host_call")})

#: Zeros are left out by the block: a finer grain would make a segment of every gap, and the compiled image has whole
#: pages of the operating system in any case.
BLOCK_BYTES: Final = 4096
_ZERO_BLOCK: Final = bytes(BLOCK_BYTES)

_KIND_GLOBAL: Final = b"\x03"
_PASSIVE: Final = 1
_IN_MEMORY_NUMBER: Final = 2
_END: Final = 0x0B
_CONSTANTS: Final = {"i32": b"\x41", "i64": b"\x42", "f32": b"\x43", "f64": b"\x44", "v128": b"\xfd\x0c"}


@dataclass(frozen=True, slots=True)
class State:
    """What an initialisation left: the memory, and by its index each mutable global's bits, little end first."""

    memory: bytes
    global_bits: Mapping[int, bytes]


def with_exported_state(wasm: bytes) -> tuple[bytes, tuple[int, ...]]:
    """`wasm` with each mutable global exported as `warren:global:<index>`, and these indices.

    `wasm` has passed `check_core_abi`, so its memory is exported already. Raises `ModuleRefused` when a snapshot of
    this module could not hold all of its state.
    """
    module = read_module(wasm)
    sections = _known_sections(module)
    _check_names(module)
    if "code" in sections:
        check_code(wasm, sections["code"])
    indices = tuple(index for index, one in enumerate(_globals(wasm, sections)) if one.is_mutable)
    if not indices:
        return wasm, ()
    entries = [sized(f"{GLOBAL_EXPORT}{index}".encode()) + _KIND_GLOBAL + leb128(index) for index in indices]
    contents = {"export": with_entries(wasm, sections.get("export"), entries)}
    return with_contents(wasm, module.sections, contents), indices


def with_state(wasm: bytes, state: State) -> bytes:
    """`wasm` as it is after the initialisation that left `state`: it has none to run any more.

    Raises `ModuleRefused` when it would be larger than a module may be.
    """
    module = read_module(wasm)
    sections = _known_sections(module)
    segments = list(_segments(wasm, sections.get("data"), nonzero_runs(state.memory)))
    contents = {
        "memory": _memory(module, len(state.memory)),
        "export": _exports(wasm, sections["export"]),
        "data": leb128(len(segments)) + b"".join(segments),
    }
    if "data count" in sections:
        contents["data count"] = leb128(len(segments))
    if "global" in sections:
        contents["global"] = _initialized_globals(wasm, sections, state.global_bits)
    baked = with_contents(wasm, [section for section in module.sections if section.name != "start"], contents)
    if len(baked) > DEFAULT_LIMITS.module_bytes:
        limit = f"at most {DEFAULT_LIMITS.module_bytes:,} are accepted"
        raise ModuleRefused(f"a snapshot of its memory makes a module of {len(baked):,} bytes; {limit}")
    return baked


def nonzero_runs(memory: bytes) -> Iterator[tuple[int, bytes]]:
    """Where there is something in the memory, and what; no run begins or ends with a zero."""
    blocks = range(0, len(memory), BLOCK_BYTES)
    for is_zero, group in groupby(blocks, lambda at: memory.startswith(_ZERO_BLOCK, at)):
        if not is_zero:
            places = list(group)
            end = places[-1] + BLOCK_BYTES
            content = memory[places[0] : end].lstrip(b"\0")
            yield end - len(content), content.rstrip(b"\0")


@dataclass(frozen=True, slots=True)
class _Global:
    value_type: str
    is_mutable: bool
    #: The declaration as it stands in the module, and as much of it as comes before the initial value.
    declaration: bytes
    head: bytes


def _known_sections(module: ModuleInfo) -> dict[str, Section]:
    return {section.name: section for section in module.sections if not section.is_custom}


def _check_names(module: ModuleInfo) -> None:
    for item in module.imports:
        if (item.module, item.name) not in _UNDERSTOOD_IMPORTS:
            raise ModuleRefused(f"no snapshot can be taken of a module that imports {item}")
    for name in module.exports:
        if name.startswith(GLOBAL_EXPORT):
            raise ModuleRefused(f"it exports {shown(name)}, a name which Warren keeps for itself")


def _globals(wasm: bytes, sections: Mapping[str, Section]) -> Iterator[_Global]:
    """The globals in the order of their indices; the ABI knows no imported ones."""
    if "global" not in sections:
        return
    reader = section_reader(wasm, sections["global"])
    for _ in range(reader.u32()):
        start = reader.position
        value_type, is_mutable = reader.value_type(), reader.byte() == 1
        value_at = reader.position
        _skip_expression(reader)
        if is_mutable and value_type not in _CONSTANTS:
            raise ModuleRefused(f"a snapshot cannot hold references, and it has a mutable global of type {value_type}")
        yield _Global(value_type, is_mutable, wasm[start : reader.position], wasm[start:value_at])
    reader.expect_end()


def _initialized_globals(wasm: bytes, sections: Mapping[str, Section], bits: Mapping[int, bytes]) -> bytes:
    declarations = [
        one.head + _constant(one.value_type, bits[index]) if one.is_mutable else one.declaration
        for index, one in enumerate(_globals(wasm, sections))
    ]
    return leb128(len(declarations)) + b"".join(declarations)


def _constant(value_type: str, bits: bytes) -> bytes:
    """The expression that gives just these bits. No float is made of them: a NaN might not survive that."""
    is_integer = value_type in ("i32", "i64")
    value = signed_leb128(int.from_bytes(bits, "little", signed=True)) if is_integer else bits
    return _CONSTANTS[value_type] + value + bytes([_END])


def _memory(module: ModuleInfo, size: int) -> bytes:
    pages = leb128(size >> 16)
    if module.memory is None or module.memory.max_pages is None:
        return b"\x01\x00" + pages
    return b"\x01\x01" + pages + leb128(module.memory.max_pages)


def _exports(wasm: bytes, section: Section) -> bytes:
    reader = section_reader(wasm, section)
    kept = []
    for _ in range(reader.u32()):
        start = reader.position
        name = reader.name()
        reader.byte()
        reader.u32()
        if name not in _INITIALIZERS:
            kept.append(wasm[start : reader.position])
    return leb128(len(kept)) + b"".join(kept)


def _segments(wasm: bytes, section: Section | None, runs: Iterator[tuple[int, bytes]]) -> Iterator[bytes]:
    """The module's passive segments, each in its place, and `runs` in the other places and after."""
    if section is not None:
        reader = section_reader(wasm, section)
        for _ in range(reader.u32()):
            start = reader.position
            is_passive = _skip_segment(reader)
            yield wasm[start : reader.position] if is_passive else _active_segment(*next(runs, (0, b"")))
        reader.expect_end()
    for run in runs:
        yield _active_segment(*run)


def _skip_segment(reader: Reader) -> bool:
    """Whether it was a passive one."""
    kind = reader.u32()
    if kind > _IN_MEMORY_NUMBER:
        reader.refuse(f"unknown kind of data segment {kind}")
    if kind == _IN_MEMORY_NUMBER:
        reader.u32()
    if kind != _PASSIVE:
        _skip_expression(reader)
    reader.skip(reader.u32())
    return kind == _PASSIVE


def _active_segment(address: int, content: bytes) -> bytes:
    return b"\x00" + _constant("i32", address.to_bytes(4, "little")) + sized(content)


def _skip_expression(reader: Reader) -> None:
    while reader.position < reader.end and reader.data[reader.position] != _END:
        skip_instruction(reader)
    reader.byte()
