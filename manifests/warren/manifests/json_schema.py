"""JSON Schema (draft 2020-12) as a set of values: reading one, and what is known of the values it accepts.

A schema is a conjunction: a value has to meet its every keyword. `Known` is such a conjunction laid open, with `$ref`
and `allOf` followed, so that what a keyword says can be looked up wherever it is said. What is not understood is left
out of it, which makes the set larger and never smaller.

Types are seven kinds that do not overlap: a JSON `number` is an `integer` (1.0 is one) or a `fraction`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import NoneType
from typing import Any, Final, Literal, get_args
from urllib.parse import unquote

from .lines import MAX_DEPTH

Kind = Literal["null", "boolean", "integer", "fraction", "string", "array", "object"]

KINDS: Final[frozenset[Kind]] = frozenset(get_args(Kind))
NUMBERS: Final[frozenset[Kind]] = frozenset({"integer", "fraction"})

#: What is read without `$schema`, and the only draft that is compared.
DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"

#: Far above what people's schemas take (hundreds), and about a second of work.
MAX_STEPS: Final = 50_000

#: Lists of alternatives for one value. A dozen of two each are all that can be gone through anyway.
MAX_CHOICES: Final = 16

#: Values in one schema: a manifest at its largest (64 KiB) has fewer.
MAX_VALUES: Final = 50_000

_TYPES: Final[Mapping[str, frozenset[Kind]]] = {
    **{kind: frozenset({kind}) for kind in KINDS if kind != "fraction"},
    "number": NUMBERS,
}
#: `bool` comes before `int`, which it is a subclass of.
_KINDS: Final[tuple[tuple[type, Kind], ...]] = (
    (str, "string"),
    (bool, "boolean"),
    (int, "integer"),
    (NoneType, "null"),
    (Mapping, "object"),
    (object, "array"),
)
_REFERENCES: Final = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})

#: What each keyword's value has to be for it to be understood.
_SHAPES: Final[Mapping[str, type | tuple[type, ...]]] = {
    "$ref": str,
    "additionalProperties": (Mapping, bool),
    "allOf": (list, tuple),
    "anyOf": (list, tuple),
    "enum": (list, tuple),
    "items": (Mapping, bool),
    "oneOf": (list, tuple),
    "properties": Mapping,
    "required": (list, tuple),
}


class TooMuch(Exception):
    """The schemas are too large, or refer to one another too often, to be compared."""


class Budget:
    """What a comparison may cost. Whoever loops over a schema spends, so that no schema makes the work endless."""

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self._left = steps

    def spend(self, steps: int = 1) -> None:
        """Raises `TooMuch` once nothing is left."""
        self._left -= steps
        if self._left < 0:
            raise TooMuch


class Numbers:
    """Numbers JSON values so that two have one number when they are equal: 1 and 1.0 are, 1 and true are not.

    Values are numbered from the inside out and each once, so that subschemas of any size are compared at no cost.
    """

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self._seen: dict[int, tuple[int, object]] = {}  # by identity; the value is held, so that its id stays its own
        self._referring: set[int] = set()

    def of(self, value: Any) -> int:
        if not isinstance(value, Mapping | list | tuple):
            return self._number((_tag(value), value))
        if (seen := self._seen.get(id(value))) is not None:
            return seen[0]
        if isinstance(value, Mapping):
            members = frozenset((name, self.of(member)) for name, member in value.items())
            number = self._number(("object", members))
            refers = not _REFERENCES.isdisjoint(value) or any(member in self._referring for _, member in members)
        else:
            items = tuple(map(self.of, value))
            number = self._number(("array", items))
            refers = not self._referring.isdisjoint(items)
        if refers:
            self._referring.add(number)
        self._seen[id(value)] = number, value
        return number

    def alike(self, one: Any, other: Any) -> bool:
        """Whether two schemas are equal, and mean the same in any document: no reference is in them."""
        number = self.of(one)
        return number == self.of(other) and number not in self._referring

    def _number(self, key: object) -> int:
        return self._numbers.setdefault(key, len(self._numbers))


class Document:
    """One schema with what its references lead to."""

    def __init__(self, root: Any, budget: Budget) -> None:
        """Raises `TooMuch` for a schema that no manifest could hold."""
        self.root = root
        self.budget = budget
        #: Whether all of it is of the one draft, and every reference counts from its root.
        self.is_plain = _is_plain(root)

    def resolve(self, reference: Any) -> Any:
        """What a reference such as `#/$defs/text` leads to; None for one that leads nowhere here."""
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            return None
        target = self.root
        for step in reference.split("/")[1:]:
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(target, Mapping):
                target = target.get(key)
            elif isinstance(target, list | tuple) and key.isdecimal() and int(key) < len(target):
                target = target[int(key)]
            else:
                return None
        return target

    def known(self, *schemas: Any) -> Known:
        """What is known of a value that meets all `schemas`. What is no schema says nothing."""
        facts: dict[int, Mapping[str, Any]] = {}
        kinds, pending = KINDS, list(schemas)
        while pending:
            schema = pending.pop()
            self.budget.spend()
            if schema is False:
                kinds = frozenset()
            elif isinstance(schema, Mapping) and id(schema) not in facts:
                facts[id(schema)] = schema
                kinds &= self._kinds(schema)
                pending.extend(read(schema, "allOf") or ())
                pending.append(self.resolve(schema.get("$ref")))
        return Known(self, tuple(facts.values()), kinds)

    def _kinds(self, schema: Mapping[str, Any]) -> frozenset[Kind]:
        kinds = kinds_of_type(schema["type"]) or KINDS if "type" in schema else KINDS
        if "const" in schema:
            kinds &= {kind(schema["const"])}
        if (values := read(schema, "enum")) is not None:
            self.budget.spend(len(values))
            kinds &= set(map(kind, values))
        return kinds


@dataclass(frozen=True)
class Known:
    """What is known of a value: it is of one of the `kinds`, and meets every one of the `facts`.

    No kinds: there is no such value. `value` holds the one that is left, where they are gone through one by one;
    `chosen` the lists of alternatives (by identity) of which one has been picked.
    """

    document: Document
    facts: tuple[Mapping[str, Any], ...]
    kinds: frozenset[Kind]
    value: tuple[Any, ...] = ()
    chosen: frozenset[int] = frozenset()

    def says(self, keyword: str) -> Any:
        """What the first fact that has `keyword` says of it; None if none does."""
        return next((fact[keyword] for fact in self.facts if keyword in fact), None)

    @cached_property
    def required(self) -> frozenset[str]:
        """The members that an object has."""
        names = [name for fact in self._all for name in read(fact, "required") or ()]
        self.document.budget.spend(len(names))
        return frozenset(name for name in names if isinstance(name, str))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The members of an object that are spoken of by name."""
        names = [name for fact in self._all for name in read(fact, "properties") or ()]
        self.document.budget.spend(len(names))
        return tuple(dict.fromkeys(names))

    def member(self, name: str | None) -> Known:
        """What is known of an object's member, should it be there; None for one that no fact names."""
        return self.document.known(*filter(_is_schema, (_member(fact, name) for fact in self._all)))

    def items(self) -> Known:
        """What is known of every item of an array."""
        return self.document.known(*(read(fact, "items") for fact in self._all if "prefixItems" not in fact))

    def bounds(self, keyword: str) -> Iterator[float]:
        """Each number that a fact gives for `keyword`."""
        return (fact[keyword] for fact in self._all if is_number(fact.get(keyword)))

    def values(self) -> tuple[Any, ...] | None:
        """All that the value can be, where that is a list."""
        if self.value:
            return self.value
        if self.kinds <= {"null"}:
            return (None,) if self.kinds else ()
        listed = [(fact["const"],) for fact in self.facts if "const" in fact]
        listed += [tuple(values) for fact in self.facts if (values := read(fact, "enum")) is not None]
        if not listed:
            return (False, True) if self.kinds == {"boolean"} else None
        fewest = min(listed, key=len)
        self.document.budget.spend(len(fewest))
        return tuple(value for value in fewest if kind(value) in self.kinds)

    def exactly(self, value: Any) -> Known:
        """The same, with `value` the only one that is left."""
        return replace(self, value=(value,), kinds=frozenset({kind(value)}))

    def alternatives(self) -> Iterator[Known]:
        """The cases of which one holds: the branches of `anyOf`, and of `oneOf`, whose being but one is left out."""
        if len(self.chosen) > MAX_CHOICES:
            raise TooMuch
        for fact in self.facts if self.kinds else ():
            for keyword in ("anyOf", "oneOf"):
                branches = read(fact, keyword)
                if branches is not None and id(branches) not in self.chosen:
                    for branch in branches:
                        yield from self._with(branch, id(branches)).alternatives()
                    return
        if self.kinds:
            yield self

    def _with(self, branch: Any, choice: int) -> Known:
        both = self.document.known(*self.facts, branch)
        return replace(both, kinds=both.kinds & self.kinds, value=self.value, chosen=self.chosen | {choice})

    @cached_property
    def _all(self) -> tuple[Mapping[str, Any], ...]:
        """The facts, and what is known of `value` in the same words."""
        self.document.budget.spend(len(self.facts))
        return (*self.facts, *map(_described, self.value))


def kind(value: Any) -> Kind:
    """The kind of a JSON value."""
    if isinstance(value, float):
        return "integer" if value.is_integer() else "fraction"
    return next(kind for of_type, kind in _KINDS if isinstance(value, of_type))


def kinds_of_type(names: Any) -> frozenset[Kind] | None:
    """What a `type` stands for; None if that is not known."""
    listed = names if isinstance(names, list | tuple) else (names,)
    kinds = [_TYPES.get(name) if isinstance(name, str) else None for name in listed]
    known = [one for one in kinds if one is not None]
    return frozenset[Kind]().union(*known) if len(known) == len(kinds) else None


def read(schema: Mapping[str, Any], keyword: str) -> Any:
    """What `schema` says of `keyword`; None if it does not, or nothing that can be understood."""
    value = schema.get(keyword)
    return value if isinstance(value, _SHAPES[keyword]) else None


def is_number(value: Any) -> bool:
    """Whether `value` can be a bound."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_schema(value: Any) -> bool:
    return isinstance(value, Mapping | bool)


def _member(fact: Mapping[str, Any], name: str | None) -> Any:
    properties = read(fact, "properties") or {}
    if name in properties:
        return properties[name]
    return None if "patternProperties" in fact else read(fact, "additionalProperties")


def _described(value: Any) -> Mapping[str, Any]:
    """A schema that `value` alone meets, as far as the rules look: one, that is, in the keywords that have rules."""
    match value:
        case bool() | None:
            return {"const": value}
        case int() | float():
            return {"const": value, "minimum": value, "maximum": value}
        case str():
            return {"const": value, "minLength": len(value), "maxLength": len(value)}
        case Mapping():
            members = {name: {"const": member} for name, member in value.items()}
            size = {"minProperties": len(value), "maxProperties": len(value)}
            return {**size, "required": list(value), "properties": members, "additionalProperties": False}
    return {"minItems": len(value), "maxItems": len(value), "items": {"enum": value}}


def _is_plain(root: Any) -> bool:
    """A walk that no depth can make fall over; raises `TooMuch` for what is too large or too deep."""
    plain = not isinstance(root, Mapping) or str(root.get("$schema", DRAFT)).removesuffix("#") == DRAFT
    level, count = [root], 0
    for depth in range(MAX_DEPTH + 1):
        within: list[Any] = []
        for value in level:
            if isinstance(value, Mapping):
                within.extend(value.values())
                plain = plain and not (depth and any(isinstance(value.get(key), str) for key in ("$id", "$schema")))
            elif isinstance(value, list | tuple):
                within.extend(value)
        count += len(within)
        if not within:
            return plain
        if count > MAX_VALUES:
            break
        level = within
    raise TooMuch


def _tag(value: Any) -> str:
    return "number" if is_number(value) else type(value).__name__
