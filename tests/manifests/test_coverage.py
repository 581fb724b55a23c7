"""What is allowed covers what is asked for only where all of it is allowed, whatever it is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.manifests import TopicPattern
from warren.manifests.coverage import covers_glob, covers_host, covers_network, covers_topic
from warren.manifests.permissions import network_host, relative_glob

DATA = tomllib.loads((Path(__file__).parent / "data" / "coverage.toml").read_text())


def topic(allowed: str, asked: str) -> bool:
    return covers_topic(TopicPattern.parse(allowed), TopicPattern.parse(asked))


def host(allowed: str, asked: str) -> bool:
    return covers_host(network_host(allowed), network_host(asked))


def glob(allowed: str, asked: str) -> bool:
    return covers_glob(relative_glob(allowed), relative_glob(asked))


COVERS: dict[str, Callable[[str, str], bool]] = {
    "host": host, "glob": glob, "topic": topic, "network": covers_network,
}  # fmt: skip
CASES = [(kind, *pair, word == "yes") for kind, table in DATA.items() for word in ("yes", "no") for pair in table[word]]


@pytest.mark.parametrize(("kind", "allowed", "asked", "covered"), CASES)
def test_what_is_asked_for_is_covered_or_not(kind: str, allowed: str, asked: str, covered: bool) -> None:  # noqa: FBT001
    assert COVERS[kind](allowed, asked) is covered


words = st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=5).map(".".join)
TOPICS = [".".join(some) for length in range(5) for some in product("abc", repeat=length)]

names = st.text(alphabet="ab*?", min_size=1, max_size=3).filter(lambda name: "**" not in name)
globs = st.lists(names | st.just("**"), min_size=1, max_size=3).map("/".join)
NAMES = ["a", "b", "c", "ab", "ba", "abc"]
PATHS = ["/".join([*some, ""]) for length in range(1, 4) for some in product(NAMES, repeat=length)]


@given(words, words)
def test_topics_of_a_pattern_that_is_covered_are_all_topics_of_the_other(allowed: str, asked: str) -> None:
    if topic(allowed, asked):
        wide, narrow = TopicPattern.parse(allowed), TopicPattern.parse(asked)
        assert all(wide.matches(published) for published in TOPICS if narrow.matches(published))


@given(words, st.data())
def test_a_pattern_covers_whatever_it_is_narrowed_to(allowed: str, data: st.DataObject) -> None:
    meant = {"#": st.lists(st.sampled_from(["a", "*", "#"]), max_size=3), "*": st.sampled_from([["a"], ["*"]])}
    narrowed = [one for word in allowed.split(".") for one in data.draw(meant.get(word, st.just([word])))]
    if narrowed:
        assert topic(allowed, ".".join(narrowed))


def _expression(pattern: str, *, strictly: bool) -> re.Pattern[str]:
    """A plain reading of a glob, for paths with a `/` after each name.

    `**` stands for any number of names; `strictly` for one at least, where it comes last.
    """
    *before, last = pattern.split("/")
    whole = "".join(map(_part, before))
    return re.compile(whole + ("(?:[^/]+/)+" if strictly and last == "**" else _part(last)))


def _part(name: str) -> str:
    return "(?:[^/]+/)*" if name == "**" else _name(name) + "/"


def _name(name: str) -> str:
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(character, character) for character in name)


@given(globs, globs)
def test_files_of_a_glob_that_is_covered_are_all_files_of_the_other(allowed: str, asked: str) -> None:
    if covers_glob(allowed, asked):
        for strictly in (True, False):  # however `data/**` is read, as long as both are read alike
            wide, narrow = _expression(allowed, strictly=strictly), _expression(asked, strictly=strictly)
            assert all(wide.fullmatch(path) for path in PATHS if narrow.fullmatch(path))


@given(globs)
def test_everything_covers_itself(pattern: str) -> None:
    assert covers_glob(pattern, pattern)
    assert covers_glob("**", pattern)


def test_a_hostile_pattern_is_compared_in_no_time() -> None:
    stars = "/".join(["**", "a"] * 170)
    assert not covers_glob(f"{stars}/b", "/".join(["a"] * 500))
    assert not covers_glob("*a" * 300 + "b", "a" * 1000)
