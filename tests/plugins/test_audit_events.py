"""What a run's outcome tells an operator of the powers that its guest used, and of those that it was refused."""

from __future__ import annotations

import pytest

from tests.plugins.test_snapshot import granting
from warren.plugins import GuestMessage
from warren.plugins.errors import GuestFault
from warren.plugins.host import AUDIT_EVENTS, RECORDED_LENGTH, Caps, HostSession
from warren.plugins.outcome import Outcome


def a_session() -> HostSession:
    return HostSession(granting(), {}, Caps())


def test_a_use_and_a_refusal_are_both_told() -> None:
    session = a_session()
    session.used("network_hosts", "https://api.example.com")
    session.refused("network_hosts", "https://evil.example", "it is not in network_hosts")
    used, refused = session.finished_audit()
    assert (used.severity, used.power, used.asked, used.refusal) == (
        "debug", "network_hosts", "https://api.example.com", None,
    )  # fmt: skip
    assert (refused.severity, refused.refusal) == ("warning", "it is not in network_hosts")


def test_what_a_guest_asked_for_is_cut_short() -> None:
    session = a_session()
    session.used("read_files", "x" * 10_000)
    assert len(session.finished_audit()[0].asked) == RECORDED_LENGTH


def test_a_refusal_cannot_be_hidden_behind_many_uses() -> None:
    session = a_session()
    for number in range(AUDIT_EVENTS + 100):
        session.used("read_files", f"{number}.txt")
    session.refused("write_files", "secret.txt", "read-only")
    events = session.finished_audit()
    assert len(events) == AUDIT_EVENTS + 1
    assert any(event.refusal == "read-only" for event in events)
    assert events[-1].asked == "101 more events"


def test_a_topic_that_may_not_be_published_on_is_told() -> None:
    session = a_session()
    with pytest.raises(GuestFault, match="may not publish"):
        session.send(GuestMessage(None, "secret.topic", b"1"))
    (event,) = session.finished_audit()
    assert (event.power, event.asked, event.severity) == ("publish", "secret.topic", "warning")


def test_what_a_called_plugin_did_is_its_callers_to_tell_with_its_name() -> None:
    callee, caller = a_session(), a_session()
    callee.refused("publish", "x", "no")
    caller.adopt("helper", "1.0.0", Outcome("denied", audit=callee.finished_audit()), None)
    (event,) = caller.finished_audit()
    assert (event.plugin, event.refusal) == ("helper", "no")
