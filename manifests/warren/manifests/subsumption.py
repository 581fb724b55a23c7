"""Whether one JSON Schema accepts all that another does, as far as that can be shown.

To decide it is hard: in general it takes exponential time, and with regular expressions and references worse. Here it
is shown keyword by keyword. The wide schema is a conjunction, so it is enough that each of its keywords follows from
what is known of the values of the narrow one; what is a choice there (`anyOf`, `enum`, several types) is gone through
case by case. That is sound and not complete: no gaps is a proof, and a gap may be a proof that was not found.

A keyword with no rule of its own follows only from the same keyword with the same value. References that lead back are
taken to hold within themselves, deeper in the value: every value is finite.

Rejected: a library (the one there is, `jsonsubschema`, rewrites schemas into canonical forms of exponential size, and
knows draft 4), and trying out generated values, which shows what breaks and never that nothing does. The tests do that.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from .findings import dotted
from .json_schema import (
    KINDS,
    NUMBERS,
    Budget,
    Document,
    Kind,
    Known,
    Numbers,
    TooMuch,
    is_number,
    kinds_of_type,
    read,
)

#: Levels of values and of alternatives within each other; a manifest's schema has at most half of that many.
MAX_NESTING: Final = 40

#: How deep a member may lie that tells two alternatives apart.
MAX_TAG_DEPTH: Final = 3

#: The way from the root of a value: `.name`, `.*` (a member that is not named), `[]` (every item).
Path: TypeAlias = tuple[str, ...]

_ANNOTATIONS: Final = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
    | {"$comment", "$defs", "definitions", "$schema", "$id", "$anchor"}
)

_APPLIES: Final[Mapping[str, frozenset[Kind]]] = {
    **dict.fromkeys(("pattern", "format", "minLength", "maxLength"), frozenset[Kind]({"string"})),
    **dict.fromkeys(("contentEncoding", "contentMediaType", "contentSchema"), frozenset[Kind]({"string"})),
    **dict.fromkeys(("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf"), NUMBERS),
    **dict.fromkeys(("items", "prefixItems", "minItems", "maxItems", "uniqueItems"), frozenset[Kind]({"array"})),
    **dict.fromkeys(("contains", "minContains", "maxContains", "unevaluatedItems"), frozenset[Kind]({"array"})),
    **dict.fromkeys(("properties", "patternProperties", "additionalProperties"), frozenset[Kind]({"object"})),
    **dict.fromkeys(("required", "minProperties", "maxProperties", "propertyNames"), frozenset[Kind]({"object"})),
    **dict.fromkeys(("dependentRequired", "dependentSchemas", "unevaluatedProperties"), frozenset[Kind]({"object"})),
}

#: For keywords whose meaning depends on those beside them: these. None: on all of them.
_CONTEXT: Final[Mapping[str, tuple[str, ...] | None]] = {
    "additionalProperties": ("properties", "patternProperties"),
    "items": ("prefixItems",),
    **dict.fromkeys(("if", "then", "else"), ("if", "then", "else")),
    **dict.fromkeys(("contains", "minContains", "maxContains"), ("contains", "minContains", "maxContains")),
    **dict.fromkeys(("unevaluatedItems", "unevaluatedProperties", "$ref", "$dynamicRef", "$recursiveRef")),
}

_COUNTS_FROM: Final = ("minLength", "minItems", "minProperties")

#: A bound follows from one of these keywords whose number stands in this relation to its own.
_STRONGER: Final[Mapping[str, Mapping[str, Callable[[float, float], bool]]]] = {
    "minimum": {"minimum": operator.ge, "exclusiveMinimum": operator.ge},
    "exclusiveMinimum": {"minimum": operator.gt, "exclusiveMinimum": operator.ge},
    "maximum": {"maximum": operator.le, "exclusiveMaximum": operator.le},
    "exclusiveMaximum": {"maximum": operator.lt, "exclusiveMaximum": operator.le},
    **{least: {least: operator.ge} for least in _COUNTS_FROM},
    **{most: {most: operator.le} for most in ("maxLength", "maxItems", "maxProperties")},
}


@dataclass(frozen=True, slots=True)
class Excluded:
    """The wide schema does not accept this: types, values, or (with neither) whatever stands there."""

    path: Path
    types: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Missing:
    """The wide schema requires a member that the narrow one does not."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class Differs:
    """A keyword of the wide schema that does not follow; the values as JSON, None where it is not said.

    `bounds` are the same two where both are numbers. What is not `certain` may follow all the same.
    """

    path: Path
    keyword: str
    wide: str
    narrow: str | None
    bounds: tuple[float, float] | None = None
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Unproven:
    """What could not be shown, because of `subject`: a keyword, or a sentence about the whole."""

    path: Path
    subject: str


Gap: TypeAlias = Excluded | Missing | Differs | Unproven


def gaps(narrow: Any, wide: Any, budget: Budget) -> tuple[Gap, ...]:
    """Why `wide` may not accept all that `narrow` does, both being schemas; nothing is a proof that it does."""
    try:
        theirs, ours = Document(narrow, budget), Document(wide, budget)
        numbers = Numbers()
        if numbers.of(narrow) == numbers.of(wide):
            return ()
        if not (theirs.is_plain and ours.is_plain):
            return (Unproven((), "only draft 2020-12 is compared, with no '$id' or '$schema' within"),)
        return tuple(dict.fromkeys(Proof(ours, numbers).gaps(theirs.known(narrow), wide, ())))
    except TooMuch:
        return (Unproven((), "there is too much to compare"),)


class Proof:
    """One attempt to show that a document accepts all that is known."""

    def __init__(self, wide: Document, numbers: Numbers) -> None:
        self.document = wide
        self.budget = wide.budget
        self.numbers = numbers
        self._under_way: dict[object, int] = {}

    def gaps(self, known: Known, wide: Any, path: Path) -> list[Gap]:
        """What is missing for `wide` to accept every value that is `known`."""
        if wide is True or not known.kinds:
            return []
        if wide is False:
            return [Excluded(path)]
        if not isinstance(wide, Mapping):
            return [Unproven(path, "this is no schema")]
        self.budget.spend(1 + len(known.facts))
        if any(self.numbers.alike(fact, wide) for fact in known.facts):
            return []
        return self._gaps_once(known, wide, path)

    def _gaps_once(self, known: Known, wide: Mapping[str, Any], path: Path) -> list[Gap]:
        """What is being shown further out holds deeper in the value; at the same place, it would be its own reason."""
        value = tuple(map(self.numbers.of, known.value))
        key = frozenset(map(id, known.facts)), known.kinds, known.chosen, value, id(wide)
        depth = self._under_way.get(key)
        if depth is not None:
            return [] if depth < len(path) else [Unproven(path, "$ref")]
        if len(self._under_way) >= MAX_NESTING:
            raise TooMuch
        self._under_way[key] = len(path)
        try:
            return [gap for case in known.alternatives() for gap in self._unmet(case, wide, path)]
        finally:
            del self._under_way[key]

    def _unmet(self, known: Known, wide: Mapping[str, Any], path: Path) -> Iterator[Gap]:
        values = known.values()
        each = (known,) if values is None else tuple(map(known.exactly, values))
        for keyword in wide:
            self.budget.spend(len(known.facts) + len(each))
            if keyword in _ANNOTATIONS or keyword.startswith("x-") or self._is_said(known, keyword, wide):
                continue
            rule = _RULES.get(keyword, _other)
            for case in (known,) if keyword in _WHOLE else each:
                if not case.kinds.isdisjoint(_APPLIES.get(keyword, KINDS)):
                    yield from rule(self, case, keyword, wide, path)

    def _is_said(self, known: Known, keyword: str, wide: Mapping[str, Any]) -> bool:
        """Whether a fact says of `keyword` what the wide schema says, in the same context."""
        context = _CONTEXT.get(keyword, ())
        if context is None:
            return False
        return any(all(self._agree(fact, wide, name) for name in (keyword, *context)) for fact in known.facts)

    def _agree(self, fact: Mapping[str, Any], wide: Mapping[str, Any], keyword: str) -> bool:
        if keyword in fact and keyword in wide:
            return self.numbers.alike(fact[keyword], wide[keyword])
        return keyword not in fact and keyword not in wide

    def are_disjoint(self, one: Known, other: Known, depth: int = MAX_TAG_DEPTH) -> bool:
        """Whether no value is both: by its kind, by its being a different string, or by a member it has to have."""
        self.budget.spend()
        shared = one.kinds & other.kinds
        if not shared:
            return True
        ours, theirs = one.values(), other.values()
        if ours is not None and theirs is not None:
            self.budget.spend(len(ours) + len(theirs))
            return all(isinstance(value, str) for value in (*ours, *theirs)) and set(ours).isdisjoint(theirs)
        if shared != {"object"} or depth == 0:
            return False
        return any(
            self.are_disjoint(one.member(name), other.member(name), depth - 1)
            for name in sorted(one.required | other.required)
        )


def _type(_proof: Proof, known: Known, keyword: str, wide: Mapping[str, Any], path: Path) -> Iterator[Gap]:
    kinds = kinds_of_type(wide[keyword])
    if kinds is None:
        yield Unproven(path, keyword)
    elif known.kinds == KINDS:
        yield Differs(path, keyword, _json(wide[keyword]), None)
    elif lost := known.kinds - kinds:
        yield Excluded(path, types=_type_names(lost))


def _listed(proof: Proof, known: Known, keyword: str, wide: Mapping[str, Any], path: Path) -> Iterator[Gap]:
    listed = (wide["const"],) if keyword == "const" else read(wide, "enum")
    values = known.values()
    if listed is None:
        yield Unproven(path, keyword)
    elif values is None:
        yield Differs(path, keyword, _json(wide[keyword]), None)
    else:
        proof.budget.spend(len(listed) + len(values))
        accepted = set(map(proof.numbers.of, listed))
        if lost := [value for value in values if proof.numbers.of(value) not in accepted]:
            yield Excluded(path, values=tuple(map(_json, lost)))


def _bound(_proof: Proof, known: Known, keyword: str, wide: Mapping[str, Any], path: Path) -> Iterator[Gap]:
    bound = wide[keyword]
    if not is_number(bound):
        yield Unproven(path, keyword)
    elif not _follows(known, keyword, bound):
        said = known.says(keyword)
        yield Differs(path, keyword, _json(bound), _said(said), (bound, said) if is_number(said) else None)


def _follows(known: Known, keyword: str, bound: float) -> bool:
    if keyword in _COUNTS_FROM and bound <= 0:
        return True
    return any(
        relation(number, bound)
        for stronger, relation in _STRONGER[keyword].items()
        for number in known.bounds(stronger)
    )


def _required(_proof: Proof, known: Known, keyword: str, wide: Mapping[str, Any], path: Path) -> Iterator[Gap]:
    names = read(wide, keyword)
    for name in (None,) if names is None else names:
        if not isinstance(name, str):
            yield Unproven(path, keyword)
        elif name not in known.required:
            yield Missing(path, name)


def _properties(proof: Proof, known: Known, keyword: str, wide: Mapping[str, Any], path: Path) -> Iterator[Gap]:
    properties = read(wide, keyword)
    if properties is None:
        yield Unproven(path, keyword)
        return
    for name, schema in properties.items():
        yield from proof.gaps(known.member(name), schema, (*path, _step(name)))


def _additional(proof: Proof, known: Known, keyword: str, wide: Mapping[str, Any], path: Path) -> Iterator[Gap]:
    """`patternProperties` beside it would let some members off; they are asked to meet it all the same."""
    listed = read(wide, "properties") or {}
    for name in known.names:
        if name not in listed:
            yield from proof.gaps(known.member(name), wide[keyword], (*path, _step(name)))
    yield from proof.gaps(known.member(None), wide[keyword], (*path, ".*"))


def _items(proof: Proof, known: Known, keyword: str, wide: Mapping[str, Any], path: Path) -> Iterator[Gap]:
    """`prefixItems` beside it would let the first items off; they are asked to meet it all the same."""
    yield from proof.gaps(known.items(), wide[keyword], (*path, "[]"))


def _all_of(proof: Proof, known: Known, keyword: str, wide: Mapping[str, Any], path: Path) -> Iterator[Gap]:
    for schema in read(wide, keyword) or (None,):
        yield from proof.gaps(known, schema, path)


def _reference(proof: Proof, known: Known, keyword: str, wide: Mapping[str, Any], path: Path) -> Iterator[Gap]:
    target = proof.document.resolve(wide[keyword])
    yield from [Unproven(path, keyword)] if target is None else proof.gaps(known, target, path)


def _choice(proof: Proof, known: Known, keyword: str, wide: Mapping[str, Any], path: Path) -> Iterator[Gap]:
    """Values of one kind at a time, since they mostly go into one branch each."""
    branches = read(wide, keyword)
    if branches is None:
        yield Unproven(path, keyword)
        return
    for one in sorted(known.kinds):
        yield from _branch(proof, replace(known, kinds=frozenset({one})), keyword, branches, path)


def _branch(proof: Proof, known: Known, keyword: str, branches: Sequence[Any], path: Path) -> list[Gap]:
    """All into one branch; of `oneOf`, the others have to be shut to them."""
    theirs = [(branch, proof.document.known(branch)) for branch in branches]
    if all(known.kinds.isdisjoint(other.kinds) for _, other in theirs):
        return [_not_taken(known, path)]
    open_to_it = [branch for branch, other in theirs if not proof.are_disjoint(known, other)]
    if not open_to_it or (keyword == "oneOf" and len(open_to_it) > 1):
        return [Unproven(path, keyword)]
    attempts = [proof.gaps(known, branch, path) for branch in open_to_it]
    if not all(attempts):
        return []
    return attempts[0] if len(attempts) == 1 else [Unproven(path, keyword)]


def _other(_proof: Proof, known: Known, keyword: str, wide: Mapping[str, Any], path: Path) -> Iterator[Gap]:
    if keyword != "uniqueItems" or wide[keyword] is not False:
        yield Differs(path, keyword, _json(wide[keyword]), _said(known.says(keyword)), certain=False)


Rule: TypeAlias = Callable[[Proof, Known, str, Mapping[str, Any], Path], Iterator[Gap]]

_RULES: Final[Mapping[str, Rule]] = {
    "type": _type,
    "enum": _listed,
    "const": _listed,
    **dict.fromkeys(_STRONGER, _bound),
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "allOf": _all_of,
    "anyOf": _choice,
    "oneOf": _choice,
    "$ref": _reference,
}

#: Whose rules take all the values at once; the others take one after the other, where they can be listed.
_WHOLE: Final = frozenset({"type", "enum", "const"})


def _not_taken(known: Known, path: Path) -> Excluded:
    if known.value:
        return Excluded(path, values=tuple(map(_json, known.value)))
    return Excluded(path, types=_type_names(known.kinds))


def _type_names(kinds: frozenset[Kind]) -> tuple[str, ...]:
    """As people know them; an integer alone, or a fraction alone, is not all of `number`."""
    if kinds >= NUMBERS:
        return tuple(sorted({"number", *kinds - NUMBERS}))
    return tuple(sorted("number that is no integer" if one == "fraction" else one for one in kinds))


def _step(name: Any) -> str:
    return f".{dotted((str(name),))}"


def _said(value: Any) -> str | None:
    return None if value is None else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
