from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.bus import (
    DEFAULT_MAX_REQUEST_BYTES,
    DELIVERY_COUNT,
    Header,
    MalformedMessage,
    Message,
    Names,
    OutcomeKind,
    TraceContext,
    dead_letter_message,
    event_message,
    read_event,
    read_request,
    read_trace_context,
    request_message,
    retry_message,
    times_passed_on,
)

NAMES = Names("test")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def event(**options: Any) -> Message:
    wanted: dict[str, Any] = {"sender": "a", "to": None, "topic": "text.done", "payload_json": b"1", "trace": None}
    return event_message(NAMES, **(wanted | options))


# Requests.


@given(JSON)
def test_a_request_is_read_as_it_was_written(data: Any) -> None:
    trace = TraceContext.new()
    message = request_message(
        NAMES, "plugin", "act", data, reply_to="r", expiration_ms=9, version="^1.2", deadline_ms=50, trace=trace
    )
    request = read_request(message, "plugin", max_bytes=1 << 20)
    assert json.loads(request.body) == {"action": "act", "data": data}
    assert request.body is message.body
    assert (request.plugin, request.action, request.message) == ("plugin", "act", message)
    assert (request.version_requirement, request.deadline_ms) == ("^1.2", 50)
    assert read_trace_context(message.headers) == trace
    assert (request.attempt, request.hops, request.sender) == (1, 0, None)


def test_a_retry_tells_the_version_of_the_attempt_before_it_and_a_first_attempt_none() -> None:
    message = request_message(NAMES, "plugin", "act", None, version="^1", hops=2)
    assert read_request(message, "plugin").resolved_version is None
    for version, told in (("1.0.0", "1.0.0"), (None, "1.0.0"), ("1.1.0", "1.1.0")):
        message = retry_message(NAMES, message, plugin="plugin", attempt=2, delay_ms=5, version=version)
        request = read_request(message, "plugin")
        assert (request.resolved_version, request.version_requirement, request.hops) == (told, "^1", 2)


def test_a_request_goes_to_the_requests_exchange_with_an_id_of_its_own() -> None:
    message = request_message(NAMES, "text_processor", "process_data", None)
    assert (message.exchange, message.routing_key) == ("test.requests", "text_processor.process_data")
    assert (message.type, message.content_type) == ("warren.request", "application/json")
    assert UUID(message.message_id).version == 7
    assert message.timestamp_s is not None
    assert message.timestamp_s == pytest.approx(datetime.now(UTC).timestamp(), abs=60)


@pytest.mark.parametrize(
    ("plugin", "action", "data", "sentence"),
    [
        ("Plugin", "act", 1, "'Plugin' cannot be the name of a plugin"),
        ("", "act", 1, "'' cannot be the name of a plugin"),
        ("x" * 64, "act", 1, "cannot be the name of a plugin"),
        ("plugin", "two.words", 1, "'two.words' cannot be an action"),
        ("plugin", "act\n", 1, "cannot be an action"),
        ("plugin", "act", float("nan"), "NaN and infinities"),
        ("plugin", "act", [float("inf")], "NaN and infinities"),
        ("plugin", "act", object(), "unknown type"),
        ("plugin", "act", "\ud800", "surrogates"),
    ],
)
def test_a_request_that_cannot_be_made_is_refused(plugin: str, action: str, data: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        request_message(NAMES, plugin, action, data)


def test_text_that_speaks_of_infinity_is_json() -> None:
    assert b"Infinity and NaN" in request_message(NAMES, "plugin", "act", "Infinity and NaN").body


def test_a_request_needs_nothing_but_its_body() -> None:
    request = read_request(Message(b'{"action":"act"}', "x", "plugin.act"), "plugin")
    assert (request.action, request.attempt, request.deadline_ms) == ("act", 1, None)


def test_a_request_may_come_straight_into_the_mailbox() -> None:
    assert read_request(Message(b'{"action":"act"}', "", NAMES.mailbox("plugin")), "plugin").action == "act"


def test_retries_and_redeliveries_count_as_attempts() -> None:
    headers = {Header.ATTEMPT: 3, "x-delivery-count": 2}
    assert read_request(Message(b'{"action":"act"}', headers=headers), "plugin").attempt == 5


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is not JSON: EOF while parsing a value at line 1 column 0"),
        (b"{'action'}", "the body is not JSON: key must be a string at line 1 column 2"),
        (b'{"action":"act"} x', "the body is not JSON: trailing characters at line 1 column 18"),
        (b'{"action":"act","data":NaN}', "the body is not JSON: expected value at line 1 column 24"),
        (b'{"action":"act","data":"\xff"}', "the body is not JSON: invalid unicode code point at line 1 column 25"),
        (b'{"action":"act","data":"\\ud800"}', "the body is not JSON: unexpected end of hex escape"),
        (b"[" * 300 + b"]" * 300, "the body is not JSON: recursion limit exceeded"),
        (b"[]", 'a request must be an object {"action": …, "data": …}, not a list'),
        (b"null", 'a request must be an object {"action": …, "data": …}, not null'),
        (b"{}", "\"action\" is missing (an event needs the message type 'warren.event')"),
        (b'{"action":1}', '"action" is a number, not text'),
        (b'{"action":true}', '"action" is a boolean, not text'),
        (b'{"action":"Two words"}', "'Two words' cannot be an action"),
        (b'{"action":"other"}', "\"action\" is 'other', but the routing key is 'plugin.act'"),
        (b'{"action":"act","action":"other"}', "\"action\" is 'other', but the routing key is 'plugin.act'"),
    ],
)
def test_what_is_no_request_is_malformed(body: bytes, sentence: str) -> None:
    with pytest.raises(MalformedMessage) as raised:
        read_request(Message(body, "test.requests", "plugin.act"), "plugin")
    assert str(raised.value).startswith(sentence)


def test_a_request_that_is_too_large_is_malformed_and_both_sizes_are_told() -> None:
    message = Message(b"x" * (DEFAULT_MAX_REQUEST_BYTES + 1))
    with pytest.raises(MalformedMessage, match="the message is 1,048,577 bytes long; at most 1,048,576 are allowed"):
        read_request(message, "plugin")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (Header.DEADLINE, "50", "the header 'warren-deadline' must be a whole number, not '50'"),
        (Header.DEADLINE, -1, "the header 'warren-deadline' must be a whole number, not -1"),
        (Header.HOPS, True, "the header 'warren-hops' must be a whole number, not True"),
        (Header.ATTEMPT, 1.5, "the header 'warren-attempt' must be a whole number, not 1.5"),
        (Header.VERSION, 1, "the header 'warren-version' must be text, not int"),
        (Header.FROM, b"a", "the header 'warren-from' must be text, not bytes"),
    ],
)
def test_a_header_of_another_type_is_malformed(name: str, value: object, sentence: str) -> None:
    with pytest.raises(MalformedMessage) as raised:
        read_request(Message(b'{"action":"act"}', headers={name: value}), "plugin")
    assert str(raised.value) == sentence


# Events.


@given(payload=JSON, sender=st.text(), to=st.none() | st.just("other"))
def test_an_event_is_read_as_it_was_written(payload: Any, sender: str, to: str | None) -> None:
    trace = TraceContext.new()
    message = event(sender=sender, to=to, payload_json=json.dumps(payload).encode(), trace=trace, hops=3)
    read = read_event(message)
    assert (read.from_, read.to, read.topic, read.payload) == (sender, to, "text.done", payload)
    assert (read.trace, read.hops, read.message_id) == (trace, 3, message.message_id)
    assert abs(read.timestamp - datetime.now(UTC)) < timedelta(minutes=1)


def test_an_event_goes_to_its_topic_and_a_direct_message_into_the_mailbox() -> None:
    broadcast, direct = event(), event(to="other")
    assert (broadcast.exchange, broadcast.routing_key) == ("test.events", "text.done")
    assert (direct.exchange, direct.routing_key) == ("test.direct", "test.plugin.other")
    assert broadcast.type == direct.type == "warren.event"


def test_an_event_tells_where_it_came_from() -> None:
    headers = event(sender="a", hops=2, causation="cause").headers
    assert headers == {"warren-from": "a", "warren-hops": 2, "warren-causation": "cause"}


def test_a_plugin_gets_an_event_as_on_message_with_the_bytes_that_came() -> None:
    message = event(sender="a", payload_json=b'{ "as":  "it is" }', hops=2)
    request = read_request(message, "plugin")
    assert request.body == b'{"action":"on_message","data":' + message.body + b"}"
    assert (request.action, request.sender, request.hops) == ("on_message", "a", 2)


@pytest.mark.parametrize(
    ("timestamp", "in_utc"),
    [
        ("2024-05-01T12:00:00Z", datetime(2024, 5, 1, 12, tzinfo=UTC)),
        ("2024-05-01T12:00:00.123456789Z", datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)),
        ("2024-05-01T14:00:00+02:00", datetime(2024, 5, 1, 12, tzinfo=UTC)),
    ],
)
def test_an_events_time_is_read_as_utc(timestamp: str, in_utc: datetime) -> None:
    body = {"from": "a", "to": None, "topic": "t", "payload": None, "timestamp": timestamp}
    assert read_event(Message(json.dumps(body).encode())).timestamp == in_utc


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"from": None}, "not an event: from: Input should be a valid string"),
        ({"extra": 1}, "not an event: extra: there is no such field"),
        ({"topic": 1}, "not an event: topic: Input should be a valid string"),
        ({"timestamp": "yesterday"}, "not an event: timestamp: Input should be a valid datetime"),
        ({"timestamp": "2024-05-01T12:00:00"}, "not an event: timestamp: Input should have timezone info"),
    ],
)
def test_what_is_no_event_is_malformed(change: dict[str, Any], sentence: str) -> None:
    body = json.loads(event().body) | change
    with pytest.raises(MalformedMessage) as raised:
        read_request(replace(event(), body=json.dumps(body).encode()), "plugin")
    assert str(raised.value).startswith(sentence)


def test_an_event_that_is_not_json_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match="Invalid JSON"):
        read_event(Message(b"{"))


@pytest.mark.parametrize(("options", "sentence"), [({"topic": "a.*"}, "wildcard"), ({"to": "No"}, "name of a plugin")])
def test_an_event_that_cannot_be_sent_is_refused(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        event(**options)


# Dead letters.


def test_a_dead_letter_is_the_whole_message_and_why_it_was_given_up() -> None:
    original = Message(
        b"whatever",
        "test.requests",
        "plugin.act",
        message_id="id",
        reply_to="somebody",
        expiration_ms=5,
        headers={"kept": 1, "x-delivery-count": 4, Header.VERSION: "^1", "traceparent": "whatever it was"},
    )
    context = TraceContext.new()
    before_ms = time.time_ns() // 1_000_000
    letter = dead_letter_message(
        NAMES,
        original,
        plugin="plugin",
        outcome=OutcomeKind.TRAP,
        error="unreachable",
        attempt=2,
        worker="host-1",
        version="1.2.3",
        context=context,
    )
    assert (letter.exchange, letter.routing_key) == ("test.dead", "plugin.trap")
    assert (letter.body, letter.message_id, letter.reply_to, letter.expiration_ms) == (b"whatever", "id", None, None)
    died_ms = letter.headers["warren-died-ms"]
    assert before_ms <= died_ms <= time.time_ns() // 1_000_000
    assert letter.headers == {
        "kept": 1,
        "traceparent": context.traceparent,
        "warren-outcome": "trap",
        "warren-error": "unreachable",
        "warren-plugin": "plugin",
        "warren-version": "1.2.3",
        "warren-attempt": 2,
        "warren-worker": "host-1",
        "warren-died-ms": died_ms,
        "warren-original-exchange": "test.requests",
        "warren-original-key": "plugin.act",
        "warren-original-reply-to": "somebody",
        "warren-original-expiration": 5,
        "warren-original-version": "^1",
        "warren-original-traceparent": "whatever it was",
    }


@pytest.mark.parametrize("plugin", [None, "", "Not A Name", "x" * 200])
def test_a_dead_letter_of_nobodys_is_filed_as_unknown(plugin: str | None) -> None:
    letter = dead_letter_message(
        NAMES, Message(b""), plugin=plugin, outcome=OutcomeKind.REJECTED, error="", attempt=1, worker="w"
    )
    assert letter.routing_key == "unknown.rejected"


@pytest.mark.parametrize("error", ["ü" * 2000, "x" + "🐇" * 1000, "\udcff" * 2000])
def test_the_error_of_a_dead_letter_is_bounded(error: str) -> None:
    letter = dead_letter_message(
        NAMES, Message(b""), plugin=None, outcome=OutcomeKind.REJECTED, error=error, attempt=1, worker="w"
    )
    assert 1020 < len(letter.headers[Header.ERROR].encode()) <= 1024


def test_a_request_that_is_left_to_others_counts_what_came_to_nothing_and_another_try_counts_anew() -> None:
    request = request_message(NAMES, "plain", "do", None)
    taken_down = replace(request, headers={DELIVERY_COUNT: 2, Header.PASSED_ON: 3})
    assert (times_passed_on(request), times_passed_on(taken_down)) == (0, 5)
    passed = retry_message(NAMES, taken_down, plugin="plain", attempt=3, delay_ms=100, passed_on=6)
    assert (times_passed_on(passed), passed.headers[Header.ATTEMPT]) == (6, 3)
    again = retry_message(NAMES, passed, plugin="plain", attempt=4, delay_ms=100)
    assert (times_passed_on(again), again.headers[Header.ATTEMPT]) == (0, 4)
