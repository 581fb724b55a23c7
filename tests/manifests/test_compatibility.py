"""What breaks callers, in sentences; when a version may; and that no schema makes the comparison endless."""

from __future__ import annotations

import json
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from warren.manifests import (
    Action,
    BreakingChange,
    Manifest,
    breaking_changes,
    next_incompatible,
    parse_version,
    unannounced_changes,
)

CASES = tomllib.loads((Path(__file__).parent / "data" / "compatibility.toml").read_text())["case"]

#: Seconds that a comparison may take here; it takes one where nobody else is at work.
LIMIT_S = 20.0


def plugin(version: str = "1.0.0", /, **actions: dict[str, Any]) -> Manifest:
    declared = {name: Action(**schemas) for name, schemas in actions.items()}
    return Manifest(name="a", version=parse_version(version), actions=declared)


def said(old: Manifest, new: Manifest) -> list[str]:
    return [str(change) for change in breaking_changes(old, new)]


def of_requests(old: Any, new: Any) -> list[str]:
    return said(plugin(go={"request": old}), plugin(go={"request": new}))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_request_may_only_accept_more(case: dict[str, Any]) -> None:
    old, new = json.loads(case["old"]), json.loads(case["new"])
    assert of_requests(old, new) == [f"action 'go': request: {sentence}" for sentence in case["request"]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_response_may_only_promise_more(case: dict[str, Any]) -> None:
    old, new = (plugin(go={"response": json.loads(case[which])}) for which in ("new", "old"))
    changes = breaking_changes(old, new)
    paths = [sentence.partition(": ")[0] if sentence[0] in ".[" else "" for sentence in case["request"]]
    assert [(change.side, change.path) for change in changes] == [("response", path) for path in paths]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ({"maxLength": 100}, {"maxLength": 1000}, "maxLength rose from 100 to 1000"),
        ({"maxLength": 100}, {}, "maxLength 100 is gone"),
        ({"type": "string"}, {"type": ["string", "null"]}, "type null may come now"),
        ({"enum": ["a"]}, {"enum": ["a", "b"]}, 'value "b" may come now'),
        ({"required": ["a"]}, {}, "'a' is no longer required"),
        ({"items": False}, {}, "[]: may come now"),
        ({"format": "date"}, {}, 'format "date" is gone: cannot be shown to give nothing but what the old one did'),
    ],
)
def test_a_response_is_told_from_the_side_of_who_reads_it(old: Any, new: Any, sentence: str) -> None:
    changes = said(plugin(go={"response": old}), plugin(go={"response": new}))
    assert changes == [f"action 'go': response: {sentence}"]


def test_an_action_may_come_and_not_go() -> None:
    one, two = plugin(go={}), plugin(go={}, stay={})
    assert said(one, two) == []
    assert breaking_changes(two, one) == (BreakingChange("stay", None, "", "is gone"),)
    assert said(two, one) == ["action 'stay': is gone"]


def test_a_schema_for_requests_may_go_and_not_come() -> None:
    free, limited = plugin(go={}), plugin(go={"request": {"type": "string"}})
    assert said(limited, free) == []
    assert said(free, limited) == ["action 'go': request: has a schema now; before, anything was accepted"]


def test_a_schema_for_responses_may_come_and_not_go() -> None:
    free, promised = plugin(go={}), plugin(go={"response": {"type": "string"}})
    assert said(free, promised) == []
    assert said(promised, free) == ["action 'go': response: has no schema any more; now, anything may come"]


def test_who_declared_no_actions_took_all_of_them() -> None:
    assert said(plugin(), plugin(go={})) == ["actions are declared now, and all others rejected; before, none was"]


def test_a_finding_is_data_as_well_as_a_sentence() -> None:
    old = plugin(go={"request": {"properties": {"a b": {"items": {"maxLength": 5}}}}})
    new = plugin(go={"request": {"properties": {"a b": {"items": {"maxLength": 4}}}}})
    assert breaking_changes(old, new) == (BreakingChange("go", "request", '."a b"[]', "maxLength fell from 5 to 4"),)


def test_what_a_sentence_quotes_is_cut() -> None:
    (sentence,) = of_requests({"enum": ["x" * 5000, *range(5000)]}, {"enum": [-1]})
    assert len(sentence) < 200
    assert sentence.endswith(", … are no longer accepted")


@pytest.mark.parametrize(
    ("version", "following"),
    [
        ("1.2.3", "2.0.0"),
        ("0.2.3", "0.3.0"),
        ("0.0.3", "0.0.4"),
        ("0.0.0", "0.0.1"),
        ("2.0.0-rc.1", "3.0.0"),
        ("1.0.0+build", "2.0.0"),
    ],
)
def test_the_first_number_that_is_not_zero_makes_versions_incompatible(version: str, following: str) -> None:
    assert str(next_incompatible(parse_version(version))) == following


@pytest.mark.parametrize(
    ("old", "new", "refused"),
    [
        ("1.2.3", "1.3.0", True),
        ("1.2.3", "2.0.0", False),
        ("1.2.3", "2.0.0-rc.1", False),
        ("1.2.3", "1.2.3", True),
        ("2.0.0", "1.0.0", True),
        ("2.0.0-rc.1", "2.0.0", True),
        ("0.2.3", "0.2.4", True),
        ("0.2.3", "0.3.0", False),
        ("0.2.3", "1.0.0", False),
        ("0.0.3", "0.0.4", False),
        ("0.0.3", "0.0.3", True),
    ],
)
def test_callers_are_broken_only_by_a_version_that_says_so(old: str, new: str, refused: bool) -> None:  # noqa: FBT001
    changes = unannounced_changes(plugin(old, go={}), plugin(new))
    assert bool(changes) == refused


def test_a_version_that_breaks_nobody_needs_no_rise() -> None:
    assert unannounced_changes(plugin("1.0.0", go={}), plugin("1.0.1", go={}, stay={})) == ()


def deep(depth: int) -> Any:
    schema: Any = {"maxLength": depth}
    for _ in range(depth):
        schema = {"properties": {"a": schema}}
    return schema


def doubling(levels: int, bound: int) -> Any:
    """Each level refers to the next one twice."""
    defs = {str(n): {"properties": {name: {"$ref": f"#/$defs/{n + 1}"} for name in ("a", "b")}} for n in range(levels)}
    return {"$ref": "#/$defs/0", "$defs": {**defs, str(levels): {"maxLength": bound}}}


def choices(count: int, bound: int) -> Any:
    return {"allOf": [{"anyOf": [{"minLength": n}, {"maxLength": bound + n}]} for n in range(count)]}


def tangled(bound: int) -> Any:
    """Every part may be any part, and the way through is never the same twice."""
    parts = [{"$ref": f"#/$defs/{n}"} for n in range(12)]
    defs = {
        str(n): {"anyOf": parts[n:] + parts[:n], "properties": {"a": {"anyOf": parts}}, "maxLength": bound + n}
        for n in range(12)
    }
    return {"anyOf": parts, "$defs": defs}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (deep(200), deep(201)),
        (deep(5000), deep(5001)),
        (doubling(30, 5), doubling(30, 6)),
        (choices(40, 5), choices(40, 6)),
        (tangled(5), tangled(6)),
        ({"enum": list(range(40_000))}, {"enum": list(range(40_001)), "minimum": 0, "maximum": 5}),
        ({"enum": list(range(100_000))}, {"enum": list(range(100_001))}),
    ],
    ids=["deep", "bottomless", "doubling", "choices", "tangled", "values", "too many values"],
)
def test_what_is_too_much_to_compare_is_said_to_be_and_takes_no_time(old: Any, new: Any) -> None:
    began = time.monotonic()
    (sentence,) = of_requests(old, new)
    assert sentence == (
        "action 'go': request: there is too much to compare: cannot be shown to accept all that the old one did"
    )
    assert time.monotonic() - began < LIMIT_S


def test_many_hostile_actions_take_no_longer_than_one() -> None:
    old, new = (plugin(**{f"go{n}": {"request": doubling(30, bound)} for n in range(200)}) for bound in (5, 6))
    began = time.monotonic()
    assert len(breaking_changes(old, new)) == 200
    assert time.monotonic() - began < LIMIT_S


def test_what_is_too_large_is_compatible_all_the_same_when_it_did_not_change() -> None:
    assert of_requests(tangled(5), tangled(5)) == []
