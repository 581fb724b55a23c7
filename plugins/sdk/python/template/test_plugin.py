"""Tests of the functions by themselves; what the plugin answers in the sandbox stands in plugin.case.toml."""

from plugin import count


def test_words_are_what_spaces_part() -> None:
    assert count({"text": " one two\n three"}) == {"words": 3}
