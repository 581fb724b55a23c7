"""The types of what a component imports and exports, written out as in WIT, and compared so.

wasmtime checks what the host defines against a component by name alone, and hands the host values of whatever type the
component says. So every function that the host gives, or calls, is compared before the component is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import wasmtime
from wasmtime.component import (
    U8,
    U32,
    U64,
    ComponentInstanceType,
    ComponentType,
    EnumType,
    FuncType,
    ListType,
    OptionType,
    RecordType,
    ResultType,
    String,
    TupleType,
)
from wasmtime.component._types import ComponentExtern

from .bindings import parts_of_type
from .errors import ModuleRefused
from .module import shortened, shown

#: Words of a type that are written out. A hostile one can double its length with every line that it takes.
_MAX_WORDS: Final = 200

#: Parts of one type, or functions of one interface, that are listed. WASI's largest interface has some 50.
_MAX_PARTS: Final = 200

_FUNC: Final = "func"

_PRIMITIVES: Final = {String: "string", U8: "u8", U32: "u32", U64: "u64"}


def check_types(
    engine: wasmtime.Engine,
    component: ComponentType,
    imports: Mapping[str, Mapping[str, str]],
    exports: Mapping[str, Mapping[str, str]],
) -> None:
    """That the functions of these interfaces are of these types, where the component has them.

    Of an interface of `warren:plugin` it may import no others; of WASI it may, and traps when it calls them.
    Raises `ModuleRefused` with all that is wrong.
    """
    problems = [
        *_problems(engine, component.imports(engine), imports, "its import"),
        *_problems(engine, component.exports(engine), exports, "its export"),
    ]
    if problems:
        raise ModuleRefused(shortened(problems))


def _problems(
    engine: wasmtime.Engine, items: Mapping[str, Any], wanted: Mapping[str, Mapping[str, str]], what: str
) -> Iterator[str]:
    for interface, functions in wanted.items():
        if interface not in items:
            continue
        is_ours = interface.startswith("warren:")
        if not functions and not is_ours:
            continue
        item = items[interface].ty
        if parts_of_type(item, engine) > _MAX_PARTS:
            yield f"{what} {interface} has more than {_MAX_PARTS} items"
            continue
        found = item.exports(engine) if isinstance(item, ComponentInstanceType) else {}
        for name, each in found.items():
            if name in functions:
                type_text = described(each, engine)
                if type_text != functions[name]:
                    yield f"{what} {name!r} of {interface} is {shown(type_text)}, and must be {functions[name]!r}"
            elif is_ours and isinstance(each.ty, FuncType):
                yield f"{what} {shown(name)} of {interface} is not provided"
        missing = functions.keys() - found.keys()
        if missing and what == "its export":
            yield f"it does not export {shortened(sorted(missing))} of {interface}"


def described(item: ComponentExtern, engine: wasmtime.Engine) -> str:
    """A function's type as WIT has it, names of types being written out: `func(action: string) -> u32`."""
    try:
        each = item.ty
        if not isinstance(each, FuncType):
            return type(each).__name__
        if parts_of_type(each, engine) > _MAX_PARTS:
            return f"{_FUNC}(…)"
        words = _Words(engine)
        params = ", ".join(f"{name}: {words.of(param)}" for name, param in each.params)
        return f"{_FUNC}({params})" + ("" if each.result is None else f" -> {words.of(each.result)}")
    except TypeError:  # what wasmtime's Python does not know
        return f"{_FUNC} of a type that is not known here"


class _Words:
    """Writes types out, up to a number of words."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        self._engine = engine
        self._left = _MAX_WORDS

    def of(self, each: Any) -> str:
        self._left -= 1
        if self._left < 0 or parts_of_type(each, self._engine) > _MAX_PARTS:
            return "…"
        if (primitive := _PRIMITIVES.get(type(each))) is not None:
            return primitive
        return self._held(each) or type(each).__name__.removesuffix("Type").lower()

    def _held(self, each: Any) -> str | None:
        match each:
            case RecordType():
                fields = ", ".join(f"{name}: {self.of(field)}" for name, field in self._some(each.fields))
                text = f"record{{{fields}}}"
            case EnumType():
                text = f"enum{{{', '.join(self._some(each.names))}}}"
            case ResultType():
                text = f"result<{', '.join('_' if side is None else self.of(side) for side in (each.ok, each.err))}>"
            case ListType():
                text = f"list<{self.of(each.element)}>"
            case OptionType():
                text = f"option<{self.of(each.payload)}>"
            case TupleType():
                text = f"tuple<{', '.join(map(self.of, self._some(each.elements)))}>"
            case _:
                return None
        return text

    def _some(self, items: Iterable[Any]) -> list[Any]:
        return list(items)[: max(0, self._left) + 1]
