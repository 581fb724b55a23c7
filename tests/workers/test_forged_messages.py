"""Messages that lie: about who sent them, where they came from, and where the answer is to go."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.guests import ask, wat, write_plugin
from tests.workers.test_worker import LIMIT_S, NAMES, PUBLISHES, Bus, sending, serving
from warren.bus import (
    Binding,
    Header,
    MalformedMessage,
    Message,
    OutcomeKind,
    Queue,
    Topology,
    passed_on_message,
    read_announcement,
    read_answer,
    read_event,
    read_order,
    retry_message,
)

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"

#: What somebody might hope to have travel on in their own request.
FORGED: dict[str, Any] = {
    Header.FROM: "admin",
    Header.CAUSATION: "forged",
    Header.OUTCOME: "forged",
    Header.PLUGIN: "admin",
    Header.ORIGINAL_EXCHANGE: "amq.topic",
    Header.ORIGINAL_KEY: "anything",
    Header.TRACEPARENT: TRACEPARENT,
    Header.TRACESTATE: "vendor=1",
    "CC": ["warren.plugin.other"],
    "BCC": ["warren.plugin.other"],
    "x-death": "forged",
    "mine": 1,
}

REQUEST = b'{"action":"do","data":null}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_plugin(tmp_path, "sender", sending("news"), PUBLISHES)
    write_plugin(tmp_path, "other")
    return tmp_path


async def arriving(bus: Bus, queue: str, *bindings: Binding) -> asyncio.Queue[Message]:
    """What comes to a queue from now on."""
    messages: asyncio.Queue[Message] = asyncio.Queue()
    await bus.transport.declare(Topology(queues=(Queue(queue),), bindings=bindings))
    await bus.transport.consume(queue, lambda each: messages.put_nowait(each.message), prefetch=9)
    return messages


async def events(bus: Bus) -> asyncio.Queue[Message]:
    return await arriving(bus, "wiretap", Binding("wiretap", NAMES.events, "#"))


async def test_of_a_requests_headers_nothing_travels_on_into_an_event_but_trace_hops_and_causation(
    folder: Path,
) -> None:
    async with serving(folder) as bus:
        heard = await events(bus)
        await bus.publish("sender", REQUEST, headers=FORGED | {Header.HOPS: 3})
        event = await asyncio.wait_for(heard.get(), LIMIT_S)
    traceparent = event.headers[Header.TRACEPARENT]
    assert event.headers == {
        Header.FROM: "sender",
        Header.HOPS: 4,
        Header.CAUSATION: "request-1",
        Header.TRACEPARENT: traceparent,
        Header.TRACESTATE: "vendor=1",
    }
    assert traceparent.split("-")[1] == TRACE_ID
    assert traceparent != TRACEPARENT
    assert json.loads(event.body)["from"] == "sender"


@pytest.mark.parametrize("forged", ["x", "", f"00-{TRACE_ID}-b7ad6b7169203331-01\r\nmine: 1", f"{TRACEPARENT}-x", 7])
async def test_a_forged_traceparent_is_no_trace_and_changes_nothing(forged: Any, folder: Path) -> None:
    async with serving(folder) as bus:
        heard = await events(bus)
        await bus.publish("sender", REQUEST, headers={Header.TRACEPARENT: forged, Header.TRACESTATE: "x" * 1_000})
        event = await asyncio.wait_for(heard.get(), LIMIT_S)
        assert (await bus.result()).ok
    assert event.headers.keys() == {Header.FROM, Header.HOPS, Header.CAUSATION, Header.TRACEPARENT}
    assert TRACE_ID not in event.headers[Header.TRACEPARENT]
    assert (event.exchange, event.routing_key) == (NAMES.events, "news")


async def test_what_a_payload_says_of_its_sender_and_topic_means_nothing(tmp_path: Path) -> None:
    lie = {"from": "admin", "to": "other", "topic": "secret", "headers": {Header.FROM: "admin"}}
    call, text = ask("send_message", json.dumps({"topic": "news", "payload": lie}))
    write_plugin(tmp_path, "sender", wat(f"(drop {call}) (call $answer)", more=text), PUBLISHES)
    async with serving(tmp_path) as bus:
        heard = await events(bus)
        await bus.client.call("sender", "do")
        event = await asyncio.wait_for(heard.get(), LIMIT_S)
    body = json.loads(event.body)
    assert (body["from"], body["to"], body["topic"], body["payload"]) == ("sender", None, "news", lie)
    assert (event.headers[Header.FROM], event.routing_key) == ("sender", "news")


async def test_a_result_is_neither_an_order_nor_an_answer_nor_an_announcement() -> None:
    body = json.dumps({"success": True, "result": {"order": "drain"}, "error": None}).encode()
    result = Message(body, "", "warren.control.x", "warren.result")
    for read in (read_order, read_answer, read_announcement, read_event):
        with pytest.raises(MalformedMessage):
            read(result)


async def test_headers_that_rabbitmq_routes_by_do_not_travel_on_into_retries_or_dead_letters(tmp_path: Path) -> None:
    retry = '[retry]\non = ["trap"]\nmax_attempts = 2\ninitial_delay_ms = 10\njitter = 0.0'
    write_plugin(tmp_path, "broken", wat("unreachable"), retry)
    async with serving(tmp_path) as bus:
        await bus.publish("broken", REQUEST, headers=FORGED)
        letter = await bus.dead_letter()
    assert letter.headers[Header.ATTEMPT] == 2
    assert not {"CC", "BCC"} & letter.headers.keys()
    assert letter.headers["mine"] == 1, "it is the same request, and has its own headers else"
    assert letter.headers[Header.ORIGINAL_EXCHANGE] == NAMES.requests
    assert letter.headers[Header.ORIGINAL_KEY] == "broken.do"


def test_no_message_that_a_worker_sends_again_has_them() -> None:
    message = Message(REQUEST, NAMES.requests, "other.do", headers=FORGED)
    for again in (
        retry_message(NAMES, message, plugin="other", attempt=2, delay_ms=5),
        passed_on_message(NAMES, message, "other"),
    ):
        assert not {"CC", "BCC"} & again.headers.keys()
        assert again.headers[Header.ORIGINAL_EXCHANGE] == NAMES.requests
        assert again.headers[Header.ORIGINAL_KEY] == "other.do"


async def test_two_plugins_that_answer_each_others_events_for_ever_stop(tmp_path: Path) -> None:
    write_plugin(tmp_path, "ping", sending("ball.pong"), '[bus]\npublish = ["ball.*"]\nsubscribe = ["ball.ping"]\n')
    write_plugin(tmp_path, "pong", sending("ball.ping"), '[bus]\npublish = ["ball.*"]\nsubscribe = ["ball.pong"]\n')
    async with serving(tmp_path) as bus:
        await bus.publish("ping", REQUEST)
        letter = await bus.dead_letter()
        outcomes = [(await bus.result()).outcome for _ in range(18)]
        assert bus.results.empty()
    assert "the message came through 17 plugins; more than 16 is a loop" in letter.headers[Header.ERROR]
    assert outcomes.count(OutcomeKind.OK) == 17


async def test_a_client_that_claims_fewer_hops_than_none_is_rejected(folder: Path) -> None:
    async with serving(folder) as bus:
        heard = await events(bus)
        await bus.publish("sender", REQUEST, headers={Header.HOPS: -5})
        assert (await bus.result()).outcome is OutcomeKind.REJECTED
        assert heard.empty()
