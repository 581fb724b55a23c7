"""What an untrusted component declares, read before wasmtime sees it.

A component is a tree: core modules, and components, which are instantiated and wired together by what stands beside
them. Its imports, exports and core modules are judged here, each core module as one by itself would be; the wiring, and
all types, are wasmtime's to check.

wasmtime limits each memory by itself, and copies the data of a module each time that it is instantiated. So each core
module and each component may be instantiated once at most, and none may be handed about: what is declared is then all
that there will be. The memory that begins largest may grow; any other is given a maximum of a mebibyte, or of what it
begins with (those are the little ones of the adapters that stub imports), and what those could have is taken off the
first one's limit. The grammar is that of https://github.com/WebAssembly/component-model, `Binary.md`.

A string that passes from one component to another is recoded by wasmtime, for no fuel and without a pause: a loop of
such calls held the event loop for minutes, past every deadline. So only one component has memories. Others, which are
there to stub imports, begin with none, and are given none. (Within one component wasmtime lets no such call happen.)

Rejected: to divide the limit by the number of memories (an adapter that needs a page would have as much as the rest).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from .errors import ModuleRefused
from .guest import PAGE_BYTES
from .module import DEFAULT_LIMITS, ModuleInfo, ModuleLimits, read_module, shown
from .wasm_binary import (
    COMPONENT_VERSION,
    MAGIC,
    PREAMBLE_BYTES,
    Reader,
    Section,
    leb128,
    section_reader,
    sized,
    with_contents,
)

#: What a memory may grow to, in pages, that is not the largest and begins with less.
LITTLE_PAGES: Final = 16

#: How deep components may lie in components, and of how many parts a component may be made in all. CPython has 40.
_MAX_DEPTH: Final = 8
_MAX_PARTS: Final = 200
#: Each takes three mappings for each guest, of which the kernel gives a process 65,530. CPython and QuickJS have two.
_MAX_MEMORIES: Final = 8
#: Imports, and exports, of the whole. CPython has 30.
_MAX_NAMES: Final = 500
#: Characters of one, which errors name.
_MAX_NAME_LENGTH: Final = 200
_MAX_SECTIONS: Final = 20_000
_MAX_ENTRIES: Final = 100_000

_CUSTOM, _CORE_MODULE, _CORE_INSTANCE, _COMPONENT, _INSTANCE, _ALIAS, _IMPORT, _EXPORT = 0, 1, 2, 4, 5, 6, 10, 11
_KNOWN_SECTIONS: Final = frozenset(range(12))

#: Sorts of what there is in a component, and of what is core in it.
_CORE, _FUNC, _VALUE, _TYPE, _COMPONENT_SORT, _INSTANCE_SORT = range(6)
_CORE_MODULE_SORT: Final = 0x11
_CORE_INSTANCE_SORT: Final = 0x12


@dataclass(frozen=True, slots=True)
class ComponentInfo:
    """What a component declares.

    `min_memory_bytes` is what its memories begin with, `little_bytes` what all but the largest can have, and
    `needed_bytes` that and what the largest begins with.
    """

    imports: tuple[str, ...]
    exports: tuple[str, ...]
    memories: int
    min_memory_bytes: int
    little_bytes: int
    needed_bytes: int


@dataclass(frozen=True, slots=True)
class _Part:
    """A core module of a component: where both of them start, and what the module declares."""

    start: int
    component: int
    info: ModuleInfo


def is_component(data: bytes) -> bool:
    """Whether this begins as a component does."""
    return data.startswith(MAGIC + COMPONENT_VERSION)


def read_component(data: bytes, limits: ModuleLimits = DEFAULT_LIMITS) -> tuple[ComponentInfo, bytes]:
    """What `data` declares; and the component with its little memories bounded, and without debug sections.

    Raises `ModuleRefused`, and nothing else. CPython's 18 MB take 0.3 s.
    """
    if len(data) > limits.module_bytes:
        raise ModuleRefused(f"the component has {len(data):,} bytes; at most {limits.module_bytes:,} are accepted")
    reading = _Reading(data, limits)
    imports, exports = reading.component(PREAMBLE_BYTES, len(data), depth=0)
    if max(len(imports), len(exports)) > _MAX_NAMES:
        raise ModuleRefused(
            f"the component has {len(imports):,} imports and {len(exports):,} exports; "
            f"at most {_MAX_NAMES} of each are accepted"
        )
    with_memory = [part for part in reading.modules if _has_memory(part.info)]
    if len(with_memory) > _MAX_MEMORIES:
        raise ModuleRefused(f"its modules have {len(with_memory)} memories together; at most {_MAX_MEMORIES}")
    largest = max(with_memory, key=_pages, default=None)
    little = {part.start: _little_pages(part, largest) for part in with_memory if largest and part is not largest}
    little_bytes = sum(little.values()) * PAGE_BYTES
    info = ComponentInfo(
        imports,
        exports,
        len(with_memory),
        sum(map(_pages, with_memory)) * PAGE_BYTES,
        little_bytes,
        little_bytes + (_pages(largest) * PAGE_BYTES if largest else 0),
    )
    return info, _rewritten(data, {part.start: part.info for part in reading.modules}, little)


class _Reading:
    """One walk over the whole tree, and what it has met."""

    def __init__(self, data: bytes, limits: ModuleLimits) -> None:
        self._data = data
        self._limits = limits
        self._sections = 0
        self._entries = 0
        self._parts = 0
        #: What its core modules have, together: by the limits of one.
        self._declared: Counter[str] = Counter()
        self.modules: list[_Part] = []

    def component(self, start: int, end: int, *, depth: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names that a component imports and exports; what it holds is read, too."""
        if depth > _MAX_DEPTH:
            raise ModuleRefused(f"components lie more than {_MAX_DEPTH} deep in it")
        imports: list[str] = []
        exports: list[str] = []
        instantiated: set[tuple[int, int]] = set()
        for section in component_sections(self._data, start, end):
            self._sections += 1
            if self._sections > _MAX_SECTIONS:
                raise ModuleRefused(f"the component has more than {_MAX_SECTIONS:,} sections")
            if section.id == _CORE_MODULE:
                self._module(section, start)
            elif section.id == _COMPONENT:
                self._part()
                self.component(section.start + PREAMBLE_BYTES, section.end, depth=depth + 1)
            elif section.id == _IMPORT:
                imports += self._imports(section)
            elif section.id == _EXPORT:
                exports += self._exports(section)
            elif section.id == _ALIAS:
                self._aliases(section)
            elif section.id in {_CORE_INSTANCE, _INSTANCE}:
                self._instances(section, instantiated)
        return tuple(imports), tuple(exports)

    def _part(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise ModuleRefused(f"the component is made of more than {_MAX_PARTS} modules and components")

    def _module(self, section: Section, component: int) -> None:
        self._part()
        info = read_module(self._data[section.start : section.end], self._limits)
        limits = self._limits
        self._declare("types", info.type_count, limits.types)
        self._declare("functions", info.function_count, limits.functions)
        self._declare("globals", info.global_count, limits.globals)
        self._declare("locals", info.local_count, limits.total_locals)
        self.modules.append(_Part(section.start, component, info))

    def _declare(self, what: str, count: int, limit: int) -> None:
        self._declared[what] += count
        if self._declared[what] > limit:
            raise ModuleRefused(f"its modules declare more than {limit:,} {what} together")

    def _listed(self, section: Section) -> Iterator[Reader]:
        """A cursor at each entry of a section that is a list."""
        reader = section_reader(self._data, section)
        for _ in range(reader.u32()):
            self._entry()
            yield reader
        reader.expect_end()

    def _entry(self) -> None:
        self._entries += 1
        if self._entries > _MAX_ENTRIES:
            raise ModuleRefused(f"the component declares more than {_MAX_ENTRIES:,} items")

    def _imports(self, section: Section) -> Iterator[str]:
        for reader in self._listed(section):
            name = _external_name(reader)
            sort = reader.byte()
            if sort in {_CORE, _COMPONENT_SORT}:
                raise ModuleRefused(f"the component imports {shown(name)} as a module or a component; it may not")
            _skip_description(reader, sort)
            yield name

    def _exports(self, section: Section) -> Iterator[str]:
        for reader in self._listed(section):
            name = _external_name(reader)
            _sort(reader)
            reader.u32()
            if reader.byte():
                _skip_description(reader, reader.byte())
            yield name

    def _aliases(self, section: Section) -> None:
        for reader in self._listed(section):
            _sort(reader)
            target = reader.byte()
            reader.u32()
            if target == 2:
                reader.u32()
            elif target in {0, 1}:
                reader.name()
            else:
                reader.refuse(f"unknown target 0x{target:02x} of an alias")

    def _instances(self, section: Section, instantiated: set[tuple[int, int]]) -> None:
        is_core = section.id == _CORE_INSTANCE
        for reader in self._listed(section):
            how = reader.byte()
            if how == 0:
                made = section.id, reader.u32()
                if made in instantiated:
                    raise ModuleRefused("the component instantiates one of its parts twice; it may do so once")
                instantiated.add(made)
            elif how != 1:
                reader.refuse(f"unknown kind 0x{how:02x} of an instance")
            for _ in range(reader.u32()):
                self._entry()
                if is_core or how == 0:
                    reader.name()
                else:
                    _external_name(reader)
                if is_core:
                    _core_sort(reader)
                else:
                    _sort(reader)
                reader.u32()


def component_sections(data: bytes, start: int, end: int) -> Iterator[Section]:
    """The sections of the component whose sections stand in [start, end), in their order."""
    _check_preamble(data, start, end)
    reader = Reader(data, "the list of sections of a component", start, end)
    while reader.position < reader.end:
        header = reader.position
        section_id = reader.byte()
        if section_id not in _KNOWN_SECTIONS:
            reader.refuse(f"unknown section id {section_id}")
        content = reader.skip(reader.u32())
        name = f"component's {section_id}."
        if section_id == _CUSTOM:
            custom = Reader(data, "a custom section", content, reader.position)
            name = custom.name()
            content = custom.position
        yield Section(section_id, name, header, content, reader.position)


def _check_preamble(data: bytes, start: int, end: int) -> None:
    if start > end or not data.startswith(MAGIC + COMPONENT_VERSION, start - PREAMBLE_BYTES):
        raise ModuleRefused("malformed component: one that it holds does not begin as a component does")


def _external_name(reader: Reader) -> str:
    kind = reader.byte()
    if kind > 1:
        reader.refuse(f"unknown kind 0x{kind:02x} of a name")
    name = reader.name()
    if len(name) > _MAX_NAME_LENGTH:
        reader.refuse(f"a name of {len(name):,} characters; at most {_MAX_NAME_LENGTH} are accepted")
    return name


def _sort(reader: Reader) -> None:
    """Pass over a sort, of which something is named, that may be."""
    sort = reader.byte()
    if sort == _CORE:
        _core_sort(reader)
    elif sort == _COMPONENT_SORT:
        raise ModuleRefused("the component hands a component about; it may only instantiate those it holds")
    elif sort > _INSTANCE_SORT:
        reader.refuse(f"unknown sort 0x{sort:02x}")


def _core_sort(reader: Reader) -> None:
    sort = reader.byte()
    if sort == _CORE_MODULE_SORT:
        raise ModuleRefused("the component hands a core module about; it may only instantiate those it holds")
    if sort > _CORE_INSTANCE_SORT:
        reader.refuse(f"unknown core sort 0x{sort:02x}")


def _skip_description(reader: Reader, sort: int) -> None:
    """Pass over what describes an import, or an export, after its sort."""
    if sort == _CORE:
        reader.byte()
        reader.u32()
    elif sort == _TYPE:
        if reader.byte() == 0:
            reader.u32()
    elif sort == _VALUE:
        reader.refuse("it imports or exports a value, which no host can give")
    else:
        reader.u32()


def _has_memory(info: ModuleInfo) -> bool:
    imports_it = any(item.kind == "memory" for item in info.imports)
    return info.memory is not None and not imports_it


def _pages(part: _Part) -> int:
    return 0 if part.info.memory is None else part.info.memory.min_pages


def _little_pages(part: _Part, largest: _Part) -> int:
    """What this one's memory may grow to, in pages. Raises `ModuleRefused` when another component has the largest."""
    pages = _pages(part)
    if part.component == largest.component:
        return max(pages, LITTLE_PAGES)
    if pages:
        raise ModuleRefused(
            "two of the components that it is made of have memory, and strings would pass between them for no fuel; "
            "at most one may have any"
        )
    return 0


def _rewritten(data: bytes, modules: Mapping[int, ModuleInfo], little: Mapping[int, int]) -> bytes:
    """`data` without debug sections, and with these maxima, in pages, of memories; modules go by where they start."""

    def component(start: int, end: int) -> bytes:
        return b"".join(map(section_bytes, component_sections(data, start, end)))

    def section_bytes(section: Section) -> bytes:
        if section.id == _CORE_MODULE:
            return bytes([_CORE_MODULE]) + sized(module(section.start, section.end))
        if section.id == _COMPONENT:
            content = data[section.start : section.start + PREAMBLE_BYTES]
            return bytes([_COMPONENT]) + sized(content + component(section.start + PREAMBLE_BYTES, section.end))
        return data[section.header : section.end]

    def module(start: int, end: int) -> bytes:
        core, info = data[start:end], modules[start]
        kept = [each for each in info.sections if not (each.is_custom and each.name.startswith(".debug_"))]
        maximum = little.get(start)
        if maximum is None or info.memory is None:
            return core if len(kept) == len(info.sections) else with_contents(core, kept, {})
        own = info.memory.max_pages
        bound = maximum if own is None else min(own, maximum)
        return with_contents(core, kept, {"memory": b"\1\1" + leb128(info.memory.min_pages) + leb128(bound)})

    return data[:PREAMBLE_BYTES] + component(PREAMBLE_BYTES, len(data))
