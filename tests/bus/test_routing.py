from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.bus import check_pattern, check_topic, topic_matches

CASES = json.loads(Path(__file__).with_name("topics.json").read_text())

WORDS = st.sampled_from(["a", "b", "", "ab"])
KEYS = st.lists(WORDS, max_size=6).map(".".join)
PATTERNS = st.lists(WORDS | st.sampled_from(["*", "#"]), max_size=6).map(".".join)


def plainly_matches(pattern: list[str], key: list[str]) -> bool:
    """The definition, word for word."""
    if not pattern:
        return not key
    first, rest = pattern[0], pattern[1:]
    if first == "#":
        return any(plainly_matches(rest, key[taken:]) for taken in range(len(key) + 1))
    return bool(key) and first in ("*", key[0]) and plainly_matches(rest, key[1:])


def words(text: str) -> list[str]:
    return text.split(".") if text else []


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['pattern']!r} and {case['key']!r}")
def test_topics_match_as_rabbitmq_has_it(case: dict[str, str | bool]) -> None:
    assert topic_matches(str(case["pattern"]), str(case["key"])) is case["matches"]


@given(PATTERNS, KEYS)
def test_topics_match_as_defined(pattern: str, key: str) -> None:
    assert topic_matches(pattern, key) is plainly_matches(words(pattern), words(key))


def test_many_hashes_take_no_longer() -> None:
    assert not topic_matches(".".join(["#", "a"] * 60), ".".join(["a"] * 120 + ["b"]))


@pytest.mark.parametrize("topic", ["a", "a.b", "a..b", "grüße", "x" * 255])
def test_a_topic_can_be_published_to(topic: str) -> None:
    check_topic(topic)
    check_pattern(topic)


@pytest.mark.parametrize(
    ("topic", "sentence"),
    [
        ("", "must not be empty"),
        ("a.*", "has a wildcard"),
        ("a.b#", "has a wildcard"),
        ("x" * 256, "is 256 bytes long; at most 255"),
        ("ü" * 128, "is 256 bytes long; at most 255"),
    ],
)
def test_what_is_no_topic_is_refused(topic: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_topic(topic)


@pytest.mark.parametrize("pattern", ["#", "*", "a.*.#", "*.*.failed"])
def test_a_pattern_can_be_subscribed_to(pattern: str) -> None:
    check_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [("", "must not be empty"), ("a.b*", r"'b\*' mixes a wildcard"), ("##", "'##' mixes"), ("x" * 256, "256 bytes")],
)
def test_what_is_no_pattern_is_refused(pattern: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_pattern(pattern)
