"""Saying the same thing seldom."""

from __future__ import annotations

import pytest

from warren.workers.seldom import AGAIN_S, Seldom


def test_one_of_a_kind_is_said_a_minute_with_how_many_there_were(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("warren.workers.seldom.time.monotonic", lambda: now)
    seldom = Seldom()
    assert [seldom.may_say("a"), seldom.may_say("a"), seldom.may_say("b"), seldom.may_say("a")] == ["", None, "", None]
    now = AGAIN_S
    assert [seldom.may_say("a"), seldom.may_say("b")] == [" (and 2 before it)", ""]
