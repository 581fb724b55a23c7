"""`subscribe` and `unsubscribe`: what a run may ask for, and what its outcome says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.guests import ask, wat
from tests.plugins.conftest import MakeSandbox
from warren.manifests import Grant, Limits, TopicPattern
from warren.plugins import GuestMessage, Outcome, TopicChange
from warren.plugins.errors import GuestFault
from warren.plugins.host import STANDARD_FUNCTIONS, Caps, HostSession


def pattern(text: str) -> TopicPattern:
    return TopicPattern.parse(text)


def a_session(**caps: Any) -> HostSession:
    grant = Grant("reader", frozenset(), Limits(), subscribe=(pattern("news.*"),), may_subscribe=(pattern("rooms.#"),))
    return HostSession(grant, STANDARD_FUNCTIONS, Caps(**caps))


def call(session: HostSession, function: str, arguments: Any) -> Any:
    answer = session.call(function.encode(), json.dumps(arguments).encode())
    assert isinstance(answer, bytes)
    return json.loads(answer)


@pytest.mark.parametrize("topic", ["rooms.1", "rooms.*", "rooms.#", "rooms", "news.today", "news.*"])
def test_what_one_granted_pattern_covers_is_recorded_and_told(topic: str) -> None:
    session = a_session()
    assert call(session, "subscribe", {"topic": topic}) == {"ok": None}
    assert session.topic_changes == (TopicChange(topic, subscribed=True),)
    [event] = session.finished_audit()
    assert (event.power, event.asked, event.refusal) == ("subscribe", topic, None)


@pytest.mark.parametrize("topic", ["#", "*", "*.1", "news.#", "news", "secret", "#.rooms"])
def test_what_no_granted_pattern_covers_ends_the_run(topic: str) -> None:
    session = a_session()
    with pytest.raises(GuestFault, match="may not subscribe to") as refused:
        call(session, "subscribe", {"topic": topic})
    assert refused.value.kind == "denied"
    [event] = session.finished_audit()
    assert (event.power, event.asked, event.severity) == ("subscribe", topic, "warning")
    assert session.topic_changes == ()


def test_the_last_word_on_a_pattern_counts_however_often_it_is_said() -> None:
    session = a_session()
    for function in ("subscribe", "subscribe", "unsubscribe", "unsubscribe", "subscribe"):
        assert call(session, function, {"topic": "rooms.1"}) == {"ok": None}
    call(session, "unsubscribe", {"topic": "rooms.2"})
    assert session.topic_changes == (TopicChange("rooms.1", subscribed=True), TopicChange("rooms.2", subscribed=False))


def test_a_plugin_may_unsubscribe_from_what_it_is_no_longer_granted() -> None:
    session = a_session()
    call(session, "unsubscribe", {"topic": "granted.before"})
    assert session.topic_changes == (TopicChange("granted.before", subscribed=False),)


def test_what_the_manifest_subscribes_to_stays() -> None:
    session = a_session()
    error = call(session, "unsubscribe", {"topic": "news.*"})["error"]
    assert error["code"] == "invalid_arguments"
    assert "'news.*' stays: it stands in [bus] subscribe" in error["message"]


@pytest.mark.parametrize("function", ["subscribe", "unsubscribe"])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (None, "takes an object of topic"),
        ("rooms.1", "takes an object of topic"),
        ({}, "takes an object of topic"),
        ({"topic": "rooms.1", "plugin": "other"}, "takes an object of topic"),
        ({"topic": 5}, "'topic' is not a topic pattern: '5'"),
        ({"topic": ""}, "'': it has an empty word"),
        ({"topic": "rooms..1"}, "it has an empty word"),
        ({"topic": "rooms.a*"}, "'*' and '#' stand for whole words"),
        ({"topic": "rooms.\u0000"}, "a word holds a space or a control character"),
        ({"topic": "rooms." + "x" * 250}, "it is longer than 255 bytes"),
    ],
)
def test_what_is_no_pattern_is_refused_to_the_guest(function: str, arguments: Any, sentence: str) -> None:
    session = a_session()
    error = call(session, function, arguments)["error"]
    assert error["code"] == "invalid_arguments"
    assert sentence in error["message"]
    assert session.topic_changes == ()


def test_too_many_changes_end_the_run() -> None:
    session = a_session(topic_changes=3)
    for number in range(3):
        call(session, "subscribe", {"topic": f"rooms.{number}"})
    call(session, "unsubscribe", {"topic": "rooms.1"})  # the same one again
    with pytest.raises(GuestFault, match="changed more than 3 subscriptions in one run") as ended:
        call(session, "subscribe", {"topic": "rooms.3"})
    assert ended.value.kind == "output_too_large"


@pytest.mark.parametrize(("ending", "kept"), [("(call $answer)", 1), ("unreachable", 0)])
async def test_only_a_run_that_ended_well_changes_anything(ending: str, kept: int, make_sandbox: MakeSandbox) -> None:
    body, segment = ask("unsubscribe", b'{"topic":"rooms.1"}')
    outcome = await (await make_sandbox(wat(f"(drop {body}) {ending}", more=segment))).run(b"{}")
    assert len(outcome.topic_changes) == kept


def test_what_a_callee_subscribes_to_is_its_own_and_its_callers_to_count() -> None:
    session = a_session(topic_changes=2)
    session.change_topic(pattern("rooms.1"), subscribed=True)
    ran = Outcome("ok", topic_changes=(TopicChange("rooms.1", subscribed=True),))
    session.adopt("helper", "1.0.0", ran, None)
    assert session.topic_changes[1] == TopicChange("rooms.1", subscribed=True, plugin="helper")
    with pytest.raises(GuestFault, match="more than 2 subscriptions"):
        session.adopt("other", "1.0.0", ran, None)


async def test_a_million_messages_end_the_run_at_the_first_too_many(make_sandbox: MakeSandbox) -> None:
    body, segment = ask("send_message", b'{"topic":"ok.x","payload":1}')
    count = """(local $i i32) (loop $again (drop {}) (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 1000000)))) (call $answer)"""
    outcome = await (await make_sandbox(wat(count.format(body), more=segment))).run(b"{}")
    assert (outcome.kind, outcome.messages) == ("output_too_large", ())
    assert outcome.error == "the guest sent more than 1,000 messages or 1,048,576 bytes of them in one run"


@pytest.mark.parametrize(
    "arguments",
    [
        {"topic": "ok.x", "payload": 1, "from": "admin"},
        {"topic": "ok.x", "payload": 1, "sender": "admin"},
        {"topic": "ok.x", "payload": 1, "headers": {"warren-from": "admin"}},
        {"topic": "ok.x", "payload": 1, "timestamp": 0},
    ],
)
async def test_a_message_whose_sender_or_headers_the_guest_would_set_is_refused(
    arguments: dict[str, Any], make_sandbox: MakeSandbox
) -> None:
    body, segment = ask("send_message", json.dumps(arguments))
    outcome = await (await make_sandbox(wat(f"(drop {body}) (call $answer)", more=segment))).run(b"{}")
    assert outcome.messages == ()
    assert "takes an object of to, topic and payload" in str(outcome.host_calls[0].error)


def test_a_message_of_255_bytes_of_topic_may_go_and_one_of_256_may_not() -> None:
    grant = Grant("sender", frozenset(), Limits(), publish=(pattern("#"),))
    session = HostSession(grant, STANDARD_FUNCTIONS, Caps())
    assert call(session, "send_message", {"topic": "x" * 255}) == {"ok": None}
    assert "is not a topic" in call(session, "send_message", {"topic": "x" * 256})["error"]["message"]
    assert "is not a topic" in call(session, "send_message", {"topic": "é" * 128})["error"]["message"]
    assert session.messages == [GuestMessage(None, "x" * 255, b"null")]
    assert [event.power for event in session.finished_audit()] == ["publish"]
