"""Where two values of JSON differ, as a person is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.plugins import Outcome, TopicChange
from warren.workers.differences import MAX_NAMED, differences
from warren.workers.trial import MAX_COMPARED_BYTES, compare

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('{"a": 1, "b": [1, 2]}', '{ "b":[1,2.0], "a":1.0 }', ()),
        ('{"a": {"b": [1, {"c": 5}]}}', '{"a": {"b": [1, {"c": 6}]}}', (".a.b[1].c: 5, now 6",)),
        ('{"a": 1}', '{"b": 2}', (".a: 1, now gone", ".b: not there, now 2")),
        ('{"a": null}', '{"a": {}}', (".a: null, now {}",)),
        ("[1, 2]", "[1, 3, 4]", ("[1]: 2, now 3", ".: 2 items, now 3")),
        ("1", "true", (".: 1, now true",)),
        ('"\\u001b[31m"', '""', ('.: "\\u001b[31m", now ""',)),
        ('{"\\u001b": 1}', "{}", (".\\u001b: 1, now gone",)),
    ],
)
def test_a_difference_is_named_with_its_path(old: str, new: str, told: tuple[str, ...]) -> None:
    assert differences(json.loads(old), json.loads(new)) == told


def test_few_are_named_and_long_values_are_cut() -> None:
    told = differences(["x" * 1000] * 100, ["y" * 1000] * 100)
    assert len(told) == MAX_NAMED
    assert max(map(len, told)) < 150


@given(VALUES)
def test_nothing_differs_from_itself_however_it_is_written(value: Any) -> None:
    assert differences(value, json.loads(json.dumps(value, indent=1))) == ()


@given(VALUES, VALUES)
def test_something_is_told_of_any_two_that_are_not_equal(old: Any, new: Any) -> None:
    if json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True):
        assert differences(old, new) == ()
    elif not differences(old, new):
        assert old == new  # 1 and 1.0


def test_of_long_answers_only_whether_they_differ_is_told() -> None:
    long, spaced, other = (
        Outcome("ok", json.dumps({"success": True, "result": values, "error": None}, separators=(",", colon)).encode())
        for values, colon in (([1] * 40_000, ":"), ([1.0] * 40_000, ": "), ([2] * 40_000, ":"))
    )
    assert len(long.response) + len(spaced.response) > MAX_COMPARED_BYTES
    assert compare(long, spaced) == ()
    assert compare(long, other) == ("answer: 80,040 bytes, now 80,040 that say otherwise",)


def test_outcomes_that_differ_are_told_with_what_was_said() -> None:
    assert compare(Outcome("ok", b"{}"), Outcome("trap", error="unreachable \x1b")) == (
        "outcome: ok, now trap (unreachable \\u001b)",
    )
    assert compare(Outcome("trap", error="here"), Outcome("trap", error="there")) == ()


def test_a_run_that_subscribes_to_something_else_differs() -> None:
    old = Outcome("ok", b"{}", topic_changes=(TopicChange("rooms.1", subscribed=True),))
    new = Outcome("ok", b"{}", topic_changes=(TopicChange("rooms.2", subscribed=True),))
    assert compare(old, old) == ()
    assert compare(old, new) == (".topics.rooms.1: true, now gone", ".topics.rooms.2: not there, now true")
