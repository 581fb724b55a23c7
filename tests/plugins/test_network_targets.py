"""Where URLs lead, and which of them lead to what was granted: every trick that a reader of URLs has been played."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.plugins.network_targets import MAX_URL_LENGTH, read_target, refusal, relative_to

DATA = tomllib.loads((Path(__file__).parent / "data" / "network_targets.toml").read_text())
GRANTED: list[str] = DATA["granted"]


@pytest.mark.parametrize(("url", "origin"), DATA["allowed"].items())
def test_a_url_leads_to_a_granted_host(url: str, origin: str) -> None:
    target = read_target(url)
    assert refusal(target, GRANTED) is None
    assert target.origin == origin
    assert read_target(target.url) == target


@pytest.mark.parametrize(("url", "words"), DATA["denied"].items())
def test_a_url_leads_where_nothing_was_granted(url: str, words: str) -> None:
    reason = refusal(read_target(url), GRANTED)
    assert reason is not None
    assert words in reason


@pytest.mark.parametrize(("url", "words"), DATA["malformed"].items())
def test_what_is_no_url_is_said_to_be_none(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_target(url)


def test_a_url_longer_than_any_server_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 8,192"):
        read_target("https://api.example.com/" + "x" * MAX_URL_LENGTH)


def test_a_path_is_sent_as_it_is_but_for_what_http_cannot_say() -> None:
    assert read_target("https://a.example/a/../b;c%20d?e=f&g=%C3%BC#h").path == "/a/../b;c%20d?e=f&g=%C3%BC"
    assert read_target('https://a.example/ü?"<>').path == "/%C3%BC?%22%3C%3E"


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/b", "https://api.example.com/b"),
        ("b?c", "https://api.example.com/v1/b?c"),
        ("../b", "https://api.example.com/b"),
        ("//evil.net/b", "https://evil.net/b"),
        ("http://evil.net", "http://evil.net/"),
        ("?c", "https://api.example.com/v1/a?c"),
        ("#c", "https://api.example.com/v1/a?x"),
    ],
)
def test_a_redirect_is_read_relative_to_where_it_came_from(location: str, url: str) -> None:
    assert relative_to(read_target("https://api.example.com/v1/a?x"), location).url == url


@pytest.mark.parametrize("location", ["/\\evil.net", "\\\\evil.net", "http://a\x00", "https://x@evil.net", "http:///"])
def test_a_redirect_that_can_be_read_in_two_ways_is_none(location: str) -> None:
    with pytest.raises(ValueError, match=r"it holds a backslash|user name|no host"):
        relative_to(read_target("https://api.example.com/"), location)


@given(st.text(alphabet="htps:/@[]\\?#.%0x17aZ-*é。 \t", max_size=24).map("http:".__add__) | st.text(max_size=12))
def test_no_text_is_read_into_a_host_that_it_does_not_begin_with(text: str) -> None:
    try:
        target = read_target(text)
    except ValueError:
        return
    if target.flaw is None:
        assert text.lower().startswith(f"{target.scheme}://{target.host}")
        assert target.path.isascii()
        assert not set(target.path) & set(" \r\n\t")
    else:
        assert refusal(target, [target.host]) == target.flaw
