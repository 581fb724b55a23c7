"""The law of compatibility: what is called compatible breaks nobody, by the validator that plugins are checked with.

Pairs of schemas are made by changing one into another, so that many are nearly the same; values are made to fit a
schema, nearly. A pair is only of worth if the first schema accepts some of them: that is counted as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from warren.manifests import Action, Manifest, Version, breaking_changes

NAMES: Final = ("a", "b", "kind")
TEXTS: Final = ("", "a", "b", "ab", "abcd")
NUMBERS: Final = (-1, 0, 1, 1.0, 1.5, 2, 3)

scalars = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(TEXTS)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from((*NAMES, "z")), inner, max_size=3),
    max_leaves=5,
)
types = st.sampled_from(("null", "boolean", "integer", "number", "string", "array", "object"))
names = st.lists(st.sampled_from(NAMES), max_size=2, unique=True)
counts = st.integers(0, 3)

LEAVES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "type": types | st.lists(types, min_size=1, max_size=3, unique=True),
    "enum": st.lists(values, min_size=1, max_size=4),
    "const": values,
    "required": names,
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), st.sampled_from(NUMBERS)),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), counts),
    "pattern": st.sampled_from(("^a", "b$")),
    "format": st.sampled_from(("date", "uuid")),
    "uniqueItems": st.booleans(),
    "multipleOf": st.sampled_from((1, 2, 0.5)),
    "minContains": counts,
    "title": st.just("a title"),
    "x-note": scalars,
    "$ref": st.sampled_from(("#", "#/$defs/a", "#/$defs/b", "#/$defs/nowhere", "#/properties/a")),
}


def nested(inner: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    members = st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    branches = st.lists(inner, min_size=1, max_size=3)
    return {
        "properties": members,
        "patternProperties": st.dictionaries(st.sampled_from(("^a", "z")), inner, max_size=1),
        "prefixItems": branches,
        **dict.fromkeys(("allOf", "anyOf", "oneOf"), branches),
        **dict.fromkeys(("additionalProperties", "items", "contains", "not", "propertyNames"), inner),
        **dict.fromkeys(("if", "then", "else", "unevaluatedProperties", "unevaluatedItems"), inner),
        "dependentRequired": st.dictionaries(st.sampled_from(NAMES), names, max_size=1),
        "dependentSchemas": members,
    }


#: Keywords that work on one another. A pair of schemas is made of one theme mostly, so that they meet.
THEMES: Final = (
    ("type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "enum", "const"),
    ("type", "minLength", "maxLength", "pattern", "format", "enum", "anyOf"),
    ("items", "prefixItems", "minItems", "maxItems", "type", "uniqueItems", "unevaluatedItems"),
    ("contains", "minContains", "items", "prefixItems", "unevaluatedItems"),
    ("properties", "patternProperties", "additionalProperties", "required", "type", "const"),
    ("properties", "additionalProperties", "propertyNames", "minProperties", "maxProperties", "enum"),
    ("properties", "unevaluatedProperties", "allOf", "dependentRequired", "dependentSchemas"),
    ("if", "then", "else", "type", "const", "not"),
    ("anyOf", "oneOf", "type", "const", "properties", "required"),
    ("$ref", "properties", "items", "not", "type", "anyOf"),
    ("enum", "const", "type", "allOf", "anyOf"),
    (*LEAVES, *nested(st.nothing())),
)


#: Keywords that take the same values and do not mean the same.
SIBLINGS: Final = {
    "minimum": "exclusiveMinimum",
    "exclusiveMaximum": "maximum",
    "maximum": "exclusiveMaximum",
    "minItems": "minLength",
    "anyOf": "oneOf",
    "oneOf": "anyOf",
    "allOf": "anyOf",
    "then": "else",
    "items": "contains",
    "properties": "patternProperties",
    "unevaluatedProperties": "additionalProperties",
}


@st.composite
def keywords(draw: st.DrawFn, inner: st.SearchStrategy[Any], theme: tuple[str, ...], most: int = 4) -> dict[str, Any]:
    possible = LEAVES | nested(inner)
    chosen = draw(st.lists(st.sampled_from(theme), max_size=most, unique=True))
    return {keyword: draw(possible[keyword]) for keyword in chosen}


leaf = st.booleans() | st.fixed_dictionaries({"type": types}) | st.fixed_dictionaries({"const": scalars})


@st.composite
def documents(draw: st.DrawFn, theme: tuple[str, ...]) -> dict[str, Any]:
    shallow = keywords(leaf | keywords(leaf, theme, 3), theme)
    schema = draw(shallow)
    if "$ref" in repr(schema):
        schema["$defs"] = {"a": draw(keywords(leaf, theme)), "b": draw(shallow)}
    return schema


@st.composite
def changed(draw: st.DrawFn, schema: Any, theme: tuple[str, ...]) -> Any:
    """The same with something changed somewhere: within it, a keyword more or less or with another value."""
    if not isinstance(schema, dict):
        return draw(st.sampled_from((schema, True, False)) | keywords(leaf, theme, 2))
    result = dict(schema)
    for keyword in draw(st.lists(st.sampled_from((*schema, "")), min_size=1, max_size=2, unique=True)):
        if keyword in schema:
            how = draw(st.sampled_from(("within", "within", "within", "without", "anew", "elsewhere")))
            if how == "without":
                del result[keyword]
            elif how == "elsewhere" and keyword in SIBLINGS:
                result[SIBLINGS[keyword]] = result.pop(keyword)
            elif how in ("within", "elsewhere") or keyword == "$defs":
                result[keyword] = draw(changed_within(keyword, schema[keyword], theme))
            else:
                result[keyword] = draw((LEAVES | nested(leaf))[keyword])
        else:
            result |= draw(keywords(leaf, theme, 1))
    return result


@st.composite
def changed_within(draw: st.DrawFn, keyword: str, value: Any, theme: tuple[str, ...]) -> Any:
    match value:
        case dict() if keyword in ("properties", "patternProperties", "dependentSchemas", "$defs"):
            return {
                name: draw(changed(schema, theme)) if draw(st.booleans()) else schema for name, schema in value.items()
            }
        case dict() | bool() if keyword not in ("const", "dependentRequired", "uniqueItems", "x-note"):
            return draw(changed(value, theme))
        case list() if keyword in ("allOf", "anyOf", "oneOf", "prefixItems"):
            return [draw(changed(schema, theme)) if draw(st.booleans()) else schema for schema in value]
        case list() if keyword in ("enum", "type"):
            return value[:-1] or value
        case int() | float() if keyword.startswith(("min", "max")):
            return value + draw(st.sampled_from((0, 1)))
    return value


SAMPLES: Final[dict[str, tuple[Any, ...]]] = {
    "null": (None,),
    "boolean": (True, False),
    "integer": (1, 1.0, 0),
    "number": (1.5, 1),
    "string": ("a", "", "abcd"),
}


def type_of(schema: dict[str, Any]) -> str:
    types = schema.get("type", "")
    return types if isinstance(types, str) else str(types[-1])


def fitting(schema: Any, root: Any, depth: int = 0) -> Iterator[Any]:
    """Values that have something of what `schema` asks for."""
    if depth > 3 or not isinstance(schema, dict):
        yield from (None, 1, 1.5, "a", True, [], {})
        return
    yield from SAMPLES.get(type_of(schema), ())
    yield from schema.get("enum", ())[:4]
    yield from [schema["const"]] if "const" in schema else ()
    for bound in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        if bound in schema:
            yield from (schema[bound], schema[bound] + 0.5, schema[bound] - 0.5, schema[bound] + 1, schema[bound] - 1)
    for count in ("minLength", "maxLength", "minItems", "maxItems"):
        if count in schema:
            yield from ("a" * schema[count], "a" * (schema[count] + 1), [1] * schema[count], [1] * (schema[count] + 1))
    for keyword in ("allOf", "anyOf", "oneOf", "prefixItems"):
        for branch in schema.get(keyword, ()):
            yield from fitting(branch, root, depth + 1)
    if schema.get("$ref") in ("#/$defs/a", "#/$defs/b"):
        yield from fitting(root.get("$defs", {}).get(schema["$ref"][-1]), root, depth + 1)
    yield from objects(schema, root, depth)
    first = [next(fitting(item, root, depth + 1)) for item in schema.get("prefixItems", ())]
    for item in [*list(fitting(schema.get("items", True), root, depth + 1))[:8], *fitting(None, root)]:
        yield from ([item], [item, item], [*first, item], [item, *first[1:]])


def objects(schema: dict[str, Any], root: Any, depth: int) -> Iterator[Any]:
    members = {**dict.fromkeys(schema.get("required", ()), True), **schema.get("properties", {})}
    for pattern, member in schema.get("patternProperties", {}).items():
        members.setdefault(pattern.strip("^$"), member)
    choices = {name: list(fitting(member, root, depth + 1))[:6] for name, member in members.items()}
    others = list(fitting(schema.get("additionalProperties", True), root, depth + 1))[:6]
    for nth in range(6):
        whole = {name: those[nth % len(those)] for name, those in choices.items()}
        yield whole
        yield {name: value for name, value in whole.items() if name in schema.get("required", ())}
        yield {**whole, "z": others[nth % len(others)]}
        yield {"b": others[nth % len(others)], **whole}
        yield from ({name: value} for name, value in whole.items())


def validator(schema: Any) -> jsonschema_rs.Validator | None:
    try:
        return jsonschema_rs.validator_for(schema, pattern_options=jsonschema_rs.RegexOptions())
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError):
        return None


def manifest(**schemas: Any) -> Manifest:
    return Manifest(name="a", version=Version(1), actions={"go": Action(**schemas)})


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: "-".join(theme[:3]))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_what_is_called_compatible_breaks_nobody(theme: tuple[str, ...], data: st.DataObject) -> None:
    narrow = data.draw(documents(theme), "narrow")
    wide = data.draw(changed(narrow, theme) | documents(theme), "wide")
    theirs, ours = validator(narrow), validator(wide)
    if theirs is None or ours is None:
        return
    of_requests = breaking_changes(manifest(request=narrow), manifest(request=wide))
    of_responses = breaking_changes(manifest(response=wide), manifest(response=narrow))
    assert [change.path for change in of_requests] == [change.path for change in of_responses]
    tried = [*fitting(narrow, narrow), *fitting(wide, wide), *data.draw(st.lists(values, max_size=10), "values")]
    accepted = [value for value in tried if theirs.is_valid(value)]
    event(f"{'compatible' if not of_requests else 'breaking'}, {'some' if accepted else 'no'} value accepted")
    if not of_requests:
        assert [value for value in accepted if not ours.is_valid(value)] == []
