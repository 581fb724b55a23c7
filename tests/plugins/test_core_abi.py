"""Finding the one JSON object that a bare pointer points to, whatever lies behind it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from warren.plugins.core_abi import object_prefix

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(st.text(), values, max_size=5)


@given(objects, st.binary(), st.sampled_from([{}, {"ensure_ascii": False}, {"indent": 1}]))
def test_any_object_followed_by_any_bytes_gives_exactly_the_object(
    value: dict[str, Any], junk: bytes, style: dict[str, Any]
) -> None:
    body = json.dumps(value, **style).encode(errors="surrogatepass")
    assert object_prefix(body + junk) == body


@given(st.binary() | st.binary().map(lambda data: b"{" + data) | st.text('{}[]",:\\u 1e-').map(str.encode))
@example(b'{"a":"\\')
@example(b"{" * 100_000)
@example(b'{"a":' + b"[" * 100_000)
@example(b'{"a":' + b"9" * 100_000)
def test_any_bytes_give_an_object_at_their_beginning_or_none(data: bytes) -> None:
    found = object_prefix(data)
    if found is not None:
        assert data.startswith(found)
        assert isinstance(json.JSONDecoder(strict=False, parse_int=float).decode(found.decode("latin-1")), dict)


def test_numbers_may_have_any_number_of_digits() -> None:
    body = b'{"a":' + b"9" * 10_000 + b"}"
    assert object_prefix(body + b"9") == body


@pytest.mark.parametrize(
    "hostile",
    [b'{"' + b'\\"' * 500_000, b'{"a":[' + b"[]," * 300_000, b'{"a":"' * 150_000, b"{" + b'"":1,' * 200_000],
    ids=["escapes", "arrays", "strings", "keys"],
)
def test_a_hostile_megabyte_is_no_object(hostile: bytes) -> None:
    """A search that is not linear has no end within a test's time."""
    assert object_prefix(hostile) is None
