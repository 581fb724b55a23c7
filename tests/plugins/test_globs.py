"""What the globs of `[permissions]` match, lead to and cover."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.plugins.globs import Globs

CASES: list[dict[str, Any]] = tomllib.loads(
    (Path(__file__).parent / "data" / "globs.toml").read_text(encoding="utf-8")
)["case"]


def split(path: str) -> tuple[str, ...]:
    return tuple(path.split("/")) if path else ()


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case["globs"]))
@pytest.mark.parametrize("question", ["match", "lead_below", "cover"])
def test_a_path_is_matched_led_to_and_covered(case: dict[str, Any], question: str) -> None:
    globs = Globs(case["globs"])
    paths = {path for each in ("match", "lead_below", "cover", "none") for path in case.get(each, [])}
    yes = {path for path in paths if getattr(globs, question)(split(path))}
    assert yes == set(case.get(question, []))


NAMES = st.sampled_from(["a", "b", "ab"])
PARTS = st.sampled_from(["a", "*", "?", "a*", "**"])


@given(st.lists(PARTS, min_size=1, max_size=4), st.lists(NAMES, max_size=4))
def test_what_matches_is_led_to_from_above(parts: list[str], path: list[str]) -> None:
    globs = Globs(["/".join(parts)])
    if globs.match(tuple(path)):
        assert all(globs.lead_below(tuple(path[:length])) for length in range(len(path)))


@given(st.lists(PARTS, min_size=1, max_size=4), st.lists(NAMES, max_size=3), st.lists(NAMES, max_size=3))
def test_what_is_below_a_covered_path_matches(parts: list[str], path: list[str], below: list[str]) -> None:
    globs = Globs(["/".join(parts)])
    if globs.cover(tuple(path)):
        assert globs.match((*path, *below))


@pytest.mark.parametrize("glob", ["*a" * 100 + "b", "/".join(["**", "a"] * 100), "[a]*" * 100 + "b"])
def test_a_glob_made_to_be_slow_is_not(glob: str) -> None:
    assert not Globs([glob]).match(("a" * 255,) * 100)  # tried out way by way, it would take for ever


def test_what_is_remembered_is_bounded() -> None:
    globs = Globs(["a/**"])
    for number in range(5_000):
        assert globs.match(("a", str(number)))
    assert len(globs._known) <= 256
