"""The manifest's `[actions]`: what is accepted, what is refused, and that a schema cannot reach outside."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from warren.manifests import parse_manifest
from warren.plugins.actions import Actions
from warren.plugins.errors import GuestFault, LoadFailed

SQUARE = """
[actions.square.request]
type = "object"
required = ["n"]
properties = { n = { type = "integer" }, list = { items = { type = "string" } }, text = { pattern = "^(a+)+$" } }
[actions.square.response]
type = "integer"
[actions.free]
description = "takes anything"
"""


def actions(text: str) -> Actions:
    source = "a.toml"
    manifest = f'[plugin]\nname = "a"\nversion = "1.0.0"\n{text}'
    return Actions(parse_manifest(manifest.encode(), source), source)


def request(action: Any, data: Any = None) -> bytes:
    return json.dumps({"action": action, "data": data}).encode()


def refused(text: str, body: bytes) -> str:
    with pytest.raises(GuestFault) as caught:
        actions(text).check_request(body)
    assert caught.value.kind == "rejected"
    return caught.value.reason


def test_a_plugin_without_declared_actions_takes_everything() -> None:
    assert actions("").check_request(b"not even JSON") is None


def test_a_fitting_request_is_accepted_and_its_answer_is_to_be_checked() -> None:
    assert actions(SQUARE).check_request(request("square", {"n": 3})) == "square"


def test_an_action_without_schemas_takes_anything() -> None:
    assert actions(SQUARE).check_request(request("free", [1, "x"])) is None


def test_on_message_needs_no_declaration() -> None:
    assert actions(SQUARE).check_request(request("on_message", {"topic": "x"})) is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "the request is not JSON"),
        (b"[]", "the request is not a JSON object"),
        (b"\xff", "the request is not JSON"),
        (request("cube"), "unknown action 'cube'; the plugin has: square, free"),
        (b"{}", "unknown action 'None'; the plugin has: square, free"),
        (request(["square"]), "unknown action"),
        (request("square"), "the data of 'square' does not match its schema: null is not of type"),
        (request("square", {"n": "3"}), "the data of 'square' does not match its schema: at n: \"3\" is not of type"),
        (request("square", {"n": 1, "list": ["a", 5]}), "at list[1]: 5 is not of type"),
    ],
)
def test_what_does_not_fit_is_rejected_with_the_place(body: bytes, reason: str) -> None:
    assert reason in refused(SQUARE, body)


def test_a_sentence_never_quotes_a_megabyte() -> None:
    assert len(refused(SQUARE, request("x" * 1_000_000))) < 300
    assert len(refused(SQUARE, request("square", ["x" * 1_000_000]))) < 500


def test_the_first_problem_is_enough() -> None:
    body = request("square", {"n": 1, "list": [1] * 200_000})
    began = time.process_time()
    assert "list[0]" in refused(SQUARE, body)
    assert time.process_time() - began < 1


def test_patterns_do_not_backtrack() -> None:
    body = request("square", {"n": 1, "text": "a" * 100_000 + "b"})
    began = time.process_time()
    assert "text" in refused(SQUARE, body)
    assert time.process_time() - began < 1


def test_an_answer_that_is_not_what_was_promised_is_the_guest_s_fault() -> None:
    declared = actions(SQUARE)
    declared.check_response("square", b'{"success":true,"result":9,"error":null}')
    with pytest.raises(GuestFault, match="the guest's answer to 'square' does not match its schema") as caught:
        declared.check_response("square", b'{"success":true,"result":"9","error":null}')
    assert caught.value.kind == "trap"


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ('type = "nonsense"', "not a JSON Schema"),
        ('pattern = "("', 'is not a "regex"'),
        ('pattern = "(?=a)a"', 'is not a "regex"'),
        ('"$ref" = "http://example.com/schema.json"', "references to other documents are not followed"),
        ('"$ref" = "file:///etc/passwd"', "references to other documents are not followed"),
        ('"$ref" = "other.json"', "is not present"),
        ('"$schema" = "http://example.com/meta"', "Unknown meta-schema"),
        ('"$ref" = "#/$defs/none"', "not a JSON Schema"),
        ("allOf = [" + '{ "$ref" = "#" },' * 33 + "]", "has 33 references; at most 32 are allowed"),
    ],
)
@pytest.mark.parametrize("side", ["request", "response"])
def test_what_is_no_schema_is_refused_with_its_place(schema: str, reason: str, side: str) -> None:
    with pytest.raises(LoadFailed) as caught:
        actions(f"[actions.x.{side}]\n{schema}")
    assert str(caught.value).startswith(f"a.toml: [actions.x] {side}: ")
    assert reason in str(caught.value)


def test_references_within_the_schema_work() -> None:
    text = """
    [actions.x.request]
    items = { "$ref" = "#/$defs/word" }
    "$defs".word.type = "string"
    """
    assert actions(text).check_request(request("x", ["a"])) is None
    assert "at [0]: 1 is not of type" in refused(text, request("x", [1]))


def test_a_schema_that_refers_to_itself_ends() -> None:
    text = '[actions.x.request]\nallOf = [{ "$ref" = "#" }]\nitems = { "$ref" = "#" }'
    nested: list[Any] = []
    for _ in range(150):
        nested = [nested]
    assert actions(text).check_request(request("x", nested)) is None
