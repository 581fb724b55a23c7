"""Each entry of `[permissions]` is taken in its canonical form or refused with the reason."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.manifests.permissions import environment_variable, network_host, relative_glob

Check = Callable[[str], str]

CHECKS: dict[str, Check] = {check.__name__: check for check in (relative_glob, network_host, environment_variable)}
DATA = tomllib.loads((Path(__file__).parent / "data" / "permissions.toml").read_text())


def entries(verdict: str) -> list[tuple[Check, str, str]]:
    return [(CHECKS[name], *pair) for name, table in DATA.items() for pair in table[verdict].items()]


@pytest.mark.parametrize(("check", "entry", "canonical"), entries("taken"))
def test_an_entry_is_taken_in_its_canonical_form(check: Check, entry: str, canonical: str) -> None:
    assert check(entry) == canonical
    assert check(canonical) == canonical


@pytest.mark.parametrize(("check", "entry", "words"), entries("refused"))
def test_an_entry_is_refused_with_the_reason(check: Check, entry: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        check(entry)


def test_a_path_longer_than_any_real_one_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 1024 bytes"):
        relative_glob("é" * 513)


@given(st.sampled_from(list(CHECKS.values())), st.text(alphabet="a.:*/[]0x19-@%~\\", max_size=16) | st.text(max_size=8))
def test_any_text_is_taken_or_refused_and_what_is_taken_is_settled(check: Check, text: str) -> None:
    try:
        canonical = check(text)
    except ValueError:
        return
    assert check(canonical) == canonical


@given(st.lists(st.sampled_from(["a", "..", "*", "**", ".", ""]), min_size=1).map("/".join))
def test_no_glob_that_is_taken_leads_upwards(text: str) -> None:
    try:
        parts = relative_glob(text).split("/")
    except ValueError:
        return
    assert ".." not in parts
    assert parts[0]
