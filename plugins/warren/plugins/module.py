"""What an untrusted core module declares, read before wasmtime sees it, and what in that does not fit a guest ABI.

wasmtime validates modules thoroughly, but too late and too generously for us: asked for the type of an exported
function that takes a v128, its Python API aborts the process, and a few kilobytes of empty functions or declared locals
keep its compiler busy for seconds. So imports, exports and counts are judged here, in milliseconds, with sentences that
a plugin's author can act on. Instructions, initial values and segments stay wasmtime's to check: reading them twice in
Python would be slow and no safer. All that is wrong with the ABI is said at once: an author who has to add three
exports should not need three tries.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from .errors import ModuleRefused
from .wasm_binary import Reader, Section, read_sections

ExternKind = Literal["func", "table", "memory", "global"]
_KINDS: Final[tuple[ExternKind, ...]] = ("func", "table", "memory", "global")
_TAG: Final = 4

_REFERENCE_TYPES: Final = ("funcref", "externref")
_FUNCTION_TYPE: Final = 0x60
_MAX_PAGES: Final = 65536
_names = reprlib.Repr()
_names.maxstring = 100


@dataclass(frozen=True, slots=True)
class ModuleLimits:
    """How much a module may declare. Go programs of 4.4 and 20 MB pass; the known compile bombs do not.

    The numbers bound what is compiled. What it may use at run time is the sandbox's to say.
    """

    module_bytes: int = 32 << 20
    types: int = 10_000
    #: Parameters, or results, of one function type; wasmtime's own limit.
    values: int = 1_000
    imports: int = 1_000
    #: Measured: 130,000 empty functions compile in 5.9 s.
    functions: int = 50_000
    #: As many, and as large, as an instance slot has room for; see `instance_pool`.
    tables: int = 8
    table_elements: int = 100_000
    memories: int = 1
    globals: int = 10_000
    exports: int = 2_000
    element_segments: int = 10_000
    data_segments: int = 100_000
    body_bytes: int = 2 << 20
    locals: int = 10_000
    #: Measured: 8 kB that declare 50 million locals compile in 2.1 s.
    total_locals: int = 500_000


DEFAULT_LIMITS: Final = ModuleLimits()


@dataclass(frozen=True, slots=True)
class FuncType:
    """The signature of a function, in the names of the text format."""

    params: tuple[str, ...] = ()
    results: tuple[str, ...] = ()

    def __str__(self) -> str:
        params = f" (param {' '.join(self.params)})" if self.params else ""
        results = f" (result {' '.join(self.results)})" if self.results else ""
        return f"(func{params}{results})"


@dataclass(frozen=True, slots=True)
class MemoryType:
    """The declared size of a memory in pages of 64 KiB."""

    min_pages: int
    max_pages: int | None


@dataclass(frozen=True, slots=True)
class Import:
    """What a module needs from its host; `signature` is there for functions."""

    module: str
    name: str
    kind: ExternKind
    signature: FuncType | None = None

    def __str__(self) -> str:
        return f"{shown(self.module)} {shown(self.name)}"


@dataclass(frozen=True, slots=True)
class Export:
    """What a module offers; `signature` is there for functions."""

    kind: ExternKind
    signature: FuncType | None = None

    def __str__(self) -> str:
        return f"a {self.kind}" if self.signature is None else str(self.signature)


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """What a module declares. The counts include what is imported."""

    imports: tuple[Import, ...]
    exports: Mapping[str, Export]
    memory: MemoryType | None
    has_start: bool
    type_count: int
    function_count: int
    global_count: int
    local_count: int
    sections: tuple[Section, ...]

    @property
    def custom_sections(self) -> tuple[Section, ...]:
        return tuple(section for section in self.sections if section.is_custom)

    @property
    def has_name_section(self) -> bool:
        """Whether a backtrace of this module will have function names."""
        return any(section.name == "name" for section in self.custom_sections)


def shown(name: str) -> str:
    """A name out of the module, quoted for a sentence; names can be as long as the module."""
    return _names.repr(name)


def read_module(data: bytes, limits: ModuleLimits = DEFAULT_LIMITS) -> ModuleInfo:
    """Read what `data` declares. Raises `ModuleRefused`, and nothing else. A Go program of 4.4 MB takes 8 ms."""
    if len(data) > limits.module_bytes:
        raise ModuleRefused(f"the module has {len(data):,} bytes; at most {limits.module_bytes:,} are accepted")
    return _Declarations(limits).read(data)


class _Declarations:
    """What has been read so far: the index spaces that later sections refer to."""

    def __init__(self, limits: ModuleLimits) -> None:
        self.limits = limits
        self.types: list[FuncType] = []
        self.imports: list[Import] = []
        self.functions: list[FuncType] = []
        self.memories: list[MemoryType] = []
        self.exports: dict[str, Export] = {}
        self.table_count = 0
        self.global_count = 0
        self.body_count = 0
        self.local_count = 0
        self.has_start = False
        #: Of each section that is a list: what it lists, how many at most, and how to read one.
        self.lists: dict[str, tuple[str, int, Callable[[Reader], None]]] = {
            "type": ("types", limits.types, self._type),
            "import": ("imports", limits.imports, self._import),
            "function": ("functions", limits.functions, self._function),
            "table": ("tables", limits.tables, self._table),
            "memory": ("memories", limits.memories, self._memory),
            "export": ("exports", limits.exports, self._export),
            "code": ("functions", limits.functions, self._body),
        }
        #: The lists of which only the length is read.
        self.lengths = {
            "global": ("globals", limits.globals),
            "element": ("element segments", limits.element_segments),
            "data count": ("data segments", limits.data_segments),
            "data": ("data segments", limits.data_segments),
        }

    def read(self, data: bytes) -> ModuleInfo:
        sections = read_sections(data)
        for section in sections:
            if not section.is_custom:
                self._section(section.name, Reader(data, f"the {section.name} section", section.start, section.end))
        declared = len(self.functions) - sum(item.kind == "func" for item in self.imports)
        if declared != self.body_count:
            raise ModuleRefused(f"malformed module: {declared} functions are declared and {self.body_count} have code")
        return ModuleInfo(
            imports=tuple(self.imports),
            exports=self.exports,
            memory=self.memories[0] if self.memories else None,
            has_start=self.has_start,
            type_count=len(self.types),
            function_count=len(self.functions),
            global_count=self.global_count,
            local_count=self.local_count,
            sections=sections,
        )

    def _section(self, name: str, reader: Reader) -> None:
        if name in self.lengths:
            length = _at_most(reader.u32(), *self.lengths[name])
            self.global_count += length if name == "global" else 0
            return
        if name == "start":
            self._start(reader)
        else:
            what, limit, read_one = self.lists[name]
            for _ in range(_at_most(reader.u32(), what, limit)):
                read_one(reader)
        reader.expect_end()

    def _type(self, reader: Reader) -> None:
        form = reader.byte()
        if form != _FUNCTION_TYPE:
            reader.refuse_type(form, "type definition")
        params = self._values(reader, "parameters of one function")
        self.types.append(FuncType(params, self._values(reader, "results of one function")))

    def _values(self, reader: Reader, what: str) -> tuple[str, ...]:
        return reader.value_types(_at_most(reader.u32(), what, self.limits.values))

    def _import(self, reader: Reader) -> None:
        module, name = reader.name(), reader.name()
        kind = _kind(reader)
        match kind:
            case "func":
                self._function(reader)
            case "table":
                self._table(reader)
            case "memory":
                self._memory(reader)
            case "global":
                reader.value_type()
                reader.byte()
                self.global_count += 1
        self.imports.append(Import(module, name, kind, self.functions[-1] if kind == "func" else None))

    def _function(self, reader: Reader) -> None:
        index = reader.u32()
        if index >= len(self.types):
            reader.refuse(f"there is no type {index}")
        self.functions.append(self.types[index])

    def _table(self, reader: Reader) -> None:
        if reader.value_type() not in _REFERENCE_TYPES:
            reader.refuse("a table can hold funcref or externref only")
        _at_most(reader.limits()[0], "elements in one table", self.limits.table_elements)
        self.table_count = _at_most(self.table_count + 1, "tables", self.limits.tables)

    def _memory(self, reader: Reader) -> None:
        memory = MemoryType(*reader.limits())
        if max(memory.min_pages, memory.max_pages or 0) > _MAX_PAGES:
            reader.refuse(f"a memory of more than {_MAX_PAGES} pages")
        self.memories.append(memory)
        _at_most(len(self.memories), "memories", self.limits.memories)

    def _export(self, reader: Reader) -> None:
        name = reader.name()
        if name in self.exports:
            reader.refuse(f"{shown(name)} is exported twice")
        kind = _kind(reader)
        index = reader.u32()
        available = {
            "func": len(self.functions),
            "table": self.table_count,
            "memory": len(self.memories),
            "global": self.global_count,
        }
        if index >= available[kind]:
            reader.refuse(f"{shown(name)} is {kind} {index}, which does not exist")
        self.exports[name] = Export(kind, self.functions[index] if kind == "func" else None)

    def _start(self, reader: Reader) -> None:
        index = reader.u32()
        if index >= len(self.functions):
            reader.refuse(f"there is no function {index}")
        if self.functions[index] != FuncType():
            reader.refuse(f"the start function is {self.functions[index]}; it can neither take nor give anything")
        self.has_start = True

    def _body(self, reader: Reader) -> None:
        """Only the locals are read: to declare many costs nothing, to compile them does."""
        size = _at_most(reader.u32(), "bytes in one function", self.limits.body_bytes)
        start = reader.skip(size)
        body = Reader(reader.data, reader.place, start, reader.position)
        count = 0
        for _ in range(body.u32()):
            # A declaration of no locals counts as one: it costs us as much to read.
            count = _at_most(count + (body.u32() or 1), "locals in one function", self.limits.locals)
            body.value_type()
        self.local_count = _at_most(self.local_count + count, "locals in all functions", self.limits.total_locals)
        self.body_count += 1


def _kind(reader: Reader) -> ExternKind:
    kind = reader.byte()
    if kind == _TAG:
        raise ModuleRefused(f"{reader.place} names a tag, which belongs to the exceptions proposal; it is off here")
    if kind > _TAG:
        reader.refuse(f"unknown kind 0x{kind:02x}")
    return _KINDS[kind]


def _at_most(count: int, what: str, limit: int) -> int:
    if count > limit:
        raise ModuleRefused(f"the module has {count:,} {what}; at most {limit:,} are accepted")
    return count


#: Names listed in one sentence; a hostile module can have a thousand.
_LISTED: Final = 12


def wrong_exports(
    info: ModuleInfo, required: Mapping[str, tuple[FuncType, ...]], optional: Mapping[str, tuple[FuncType, ...]]
) -> Iterator[str]:
    """What keeps a guest ABI from calling `info`: each function by its name, with the signatures that it may have."""
    exports = info.exports
    missing = [shown(name) for name in ("memory", *required) if name not in exports]
    if missing:
        yield f"it does not export {shortened(missing)}"
    if "memory" in exports and exports["memory"].kind != "memory":
        yield f"its export 'memory' is {exports['memory']}, and must be its memory"
    for name, wanted in (*required.items(), *optional.items()):
        if name in exports and exports[name].signature not in wanted:
            yield f"its export {name!r} is {exports[name]}, and must be {' or '.join(map(str, wanted))}"
    vectors = [shown(name) for name, export in exports.items() if _has_vector(export)]
    if vectors:
        yield f"no exported function may take or give a v128, and these do: {shortened(vectors)}"


def _has_vector(export: Export) -> bool:
    # wasmtime's Python API aborts the process when it is asked for such a function's type.
    signature = export.signature
    return signature is not None and "v128" in signature.params + signature.results


def wrong_imports(imports: tuple[Import, ...], allowed: Mapping[tuple[str, str], FuncType]) -> Iterator[str]:
    """What of `imports` the host does not provide, or not so."""
    unknown = []
    for item in imports:
        wanted = allowed.get((item.module, item.name))
        if wanted is None:
            unknown.append(item)
        elif item.signature != wanted:
            found = f"a {item.kind}" if item.signature is None else str(item.signature)
            yield f"its import {item} is {found}, and is provided as {wanted}"
    if unknown:
        yield f"it imports what is not provided here: {shortened([str(item) for item in unknown])}"


def shortened(names: list[str]) -> str:
    """Names for a sentence, and how many more there are."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
