"""Topic patterns: RabbitMQ's meaning, checked against the plainest possible reference and against the bus's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.bus.routing import topic_matches
from warren.manifests import InvalidValue, TopicPattern, is_topic

words = st.sampled_from(["a", "b", "text"])
topics = st.lists(words, max_size=7).map(".".join)
patterns = st.lists(words | st.sampled_from(["*", "#"]), min_size=1, max_size=7).map(".".join)


def means(pattern: list[str], topic: list[str]) -> bool:
    """The definition, word by word."""
    if not pattern:
        return not topic
    if pattern[0] == "#":
        return means(pattern[1:], topic) or (bool(topic) and means(pattern, topic[1:]))
    return bool(topic) and pattern[0] in ("*", topic[0]) and means(pattern[1:], topic[1:])


@given(patterns, topics)
def test_a_pattern_matches_what_its_definition_says(pattern: str, topic: str) -> None:
    assert TopicPattern.parse(pattern).matches(topic) == means(pattern.split("."), topic.split(".") if topic else [])


@given(patterns, topics)
def test_the_bus_and_the_manifests_agree(pattern: str, topic: str) -> None:
    assert TopicPattern.parse(pattern).matches(topic) == topic_matches(pattern, topic)


def test_a_pattern_full_of_wildcards_is_decided_at_once() -> None:
    pattern = TopicPattern.parse(".".join(["#", "a", "*"] * 40 + ["b"]))
    topic = ".".join(["a"] * 100_000)
    assert not pattern.matches(topic)
    assert not pattern.matches(f"{topic}.b.c")
    assert pattern.matches(f"{topic}.b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty word"),
        (".", "empty word"),
        ("a.", "empty word"),
        ("a.b*", "whole words"),
        ("##", "whole words"),
        ("a b", "space"),
        ("a\0", "control character"),
        ("é" * 128, "longer than 255 bytes"),
    ],
)
def test_what_is_no_pattern_is_refused_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(InvalidValue, match="is not a topic pattern") as refused:
        TopicPattern.parse(text)
    assert words in refused.value.reason


@pytest.mark.parametrize("text", ["a", "text.processed", "é" * 127])
def test_words_parted_by_dots_are_a_topic(text: str) -> None:
    assert is_topic(text)


@pytest.mark.parametrize("text", ["", "a..b", "*", "a.#", "a*", "a b", "\ud800", "x" * 256])
def test_wildcards_empty_words_and_what_no_routing_key_holds_are_not(text: str) -> None:
    assert not is_topic(text)
