from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from warren.bus import (
    Header,
    MalformedMessage,
    Message,
    Names,
    OutcomeKind,
    Span,
    Trace,
    TraceContext,
    encode_trace,
    failure_body,
    read_result,
    request_message,
    result_message,
)

NAMES = Names("test")
REQUEST = request_message(NAMES, "plugin", "act", 1)
BODY = b'{"success":true,"result":[1],"error":null}'


def result(request: Message = REQUEST, **options: Any) -> Message:
    wanted: dict[str, Any] = {"plugin": "plugin", "action": "act", "outcome": OutcomeKind.OK, "body": BODY}
    return result_message(NAMES, request, **(wanted | options))


def test_a_result_is_read_as_it_was_written() -> None:
    context = TraceContext.new()
    trace = Trace(context.trace_id, (Span("run", context, None, "internal", 0, 0, {}),))
    message = result(
        version="1.2.3",
        fuel=1,
        memory_bytes=65536,
        duration_us=3,
        attempt=4,
        trace_json=encode_trace(trace),
        context=context,
    )
    read = read_result(message)
    assert (read.plugin, read.action, read.version, read.outcome) == ("plugin", "act", "1.2.3", "ok")
    assert (read.fuel, read.memory_bytes, read.duration_us, read.attempt) == (1, 65536, 3, 4)
    assert (read.message_id, read.correlation_id) == (message.message_id, REQUEST.message_id)
    assert read.trace == trace
    assert (read.body, read.ok, read.success, read.result, read.error) == (BODY, True, True, [1], None)
    assert message.headers["traceparent"] == context.traceparent


def test_a_result_goes_to_whoever_asked_else_to_the_results_exchange() -> None:
    assert (result().exchange, result().routing_key) == ("test.results", "plugin.act.ok")
    asked = result(request_message(NAMES, "plugin", "act", 1, reply_to="somebody", correlation_id="mine"))
    assert (asked.exchange, asked.routing_key, asked.correlation_id) == ("", "somebody", "mine")


def test_the_two_results_of_one_request_have_one_id() -> None:
    assert result().message_id == result(outcome=OutcomeKind.TRAP).message_id
    assert result().message_id != result(request_message(NAMES, "plugin", "act", 1)).message_id


def test_results_of_requests_without_an_id_have_ids_of_their_own() -> None:
    one, other = result(Message(b"")), result(Message(b""))
    assert one.message_id != other.message_id
    assert UUID(one.message_id).version == 7
    assert one.correlation_id is None


@pytest.mark.parametrize("name", [None, "", "two.words", "*", "x" * 200])
def test_the_key_of_a_result_has_three_words_always(name: str | None) -> None:
    message = result(action=name, plugin=name or "")
    assert message.routing_key == "unknown.unknown.ok"
    assert read_result(message).action == (name or "unknown")


@pytest.mark.parametrize("error", ['it\'s "broken"', "", "\udcff", "ü"])
def test_a_failure_has_the_shape_of_an_answer(error: str) -> None:
    answer = json.loads(failure_body(error))
    assert answer == {"success": False, "result": None, "error": error.replace("\udcff", "?")}
    read = read_result(result(outcome=OutcomeKind.TRAP, body=failure_body(error)))
    assert (read.ok, read.success, read.result, read.error) == (False, False, None, answer["error"])


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff"])
def test_an_answer_that_is_none_is_malformed_when_it_is_asked_for(body: bytes) -> None:
    read = read_result(result(body=body))
    assert read.body == body
    with pytest.raises(MalformedMessage):
        _ = read.success


def test_an_error_that_is_not_text_is_shown_as_json() -> None:
    assert read_result(result(body=b'{"success":false,"error":{"code":1}}')).error == '{"code":1}'


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ({}, "not a result: the header 'warren-outcome' is None, which is no outcome"),
        ({Header.OUTCOME: "great"}, "not a result: the header 'warren-outcome' is 'great', which is no outcome"),
        ({Header.OUTCOME: "ok"}, "not a result: it lacks the header 'warren-plugin'"),
        (
            {Header.OUTCOME: "ok", Header.PLUGIN: "p", Header.FUEL: "1"},
            "the header 'warren-fuel' must be a whole number",
        ),
    ],
)
def test_what_is_no_result_is_malformed(headers: dict[str, str], sentence: str) -> None:
    with pytest.raises(MalformedMessage) as raised:
        read_result(Message(BODY, headers=headers))
    assert str(raised.value).startswith(sentence)


@pytest.mark.parametrize("trace_json", ["", "{}", "not JSON"])
def test_a_trace_that_cannot_be_read_costs_no_one_a_result(trace_json: str) -> None:
    read = read_result(result(trace_json=trace_json))
    assert (read.trace, read.result) == (None, [1])
