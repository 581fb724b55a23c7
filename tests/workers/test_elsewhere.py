"""A plugin that calls one that another worker has, over the bus, and what is seen of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.guests import ask, calling, data, echoing, needing, relaying, wat, write_plugin
from warren.bus import (
    DIRECT_REPLY_TO,
    BrokerUnreachable,
    Client,
    Consumer,
    Delivery,
    Header,
    MemoryTransport,
    Message,
    Names,
    OutcomeKind,
    Span,
    Trace,
    Transport,
    connect,
    failure_body,
    mailbox_topology,
    read_result,
    request_message,
    result_message,
)
from warren.bus.memory import shared_broker
from warren.plugins import PluginManager
from warren.workers import elsewhere
from warren.workers.settings import WorkerSettings
from warren.workers.worker import Worker

NAMES = Names("warren")
LIMIT_S = 20.0
PUBLISHES = '[bus]\npublish = ["#"]\n'


class Fleet:
    """Workers on one bus, each with a folder of its own; `spans` are what the worker of a folder exports."""

    def __init__(self, url: str, client: Client, stack: AsyncExitStack) -> None:
        self.url = url
        self.client = client
        self.spans: dict[str, list[Span]] = {}
        self._stack = stack

    async def look(self) -> Transport:
        """One more connection, to publish with."""
        transport = await connect(self.url)
        self._stack.push_async_callback(transport.close)
        return transport

    async def add(self, folder: Path, transport: Transport | None = None) -> Worker:
        transport = transport or await connect(self.url)
        self._stack.push_async_callback(transport.close)
        manager = await self._stack.enter_async_context(PluginManager(folder))
        assert not manager.failures
        spans = self.spans[folder.name] = list[Span]()
        settings = WorkerSettings(folder, self.url, grace_s=LIMIT_S)
        worker = Worker(transport, manager, settings, export_spans=spans.extend)
        self._stack.push_async_callback(worker.drain)
        await worker.start()
        return worker


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    url = f"memory://{tmp_path.name}-{id(tmp_path)}"
    async with AsyncExitStack() as stack, Client(url, timeout_s=LIMIT_S) as client:
        yield Fleet(url, client, stack)


async def test_a_plugin_calls_one_that_another_worker_has(fleet: Fleet, tmp_path: Path) -> None:
    write_plugin(tmp_path / "a", "caller", relaying("echo", data=[1]), needing("echo", optional=True))
    write_plugin(tmp_path / "b", "echo", echoing())
    await fleet.add(tmp_path / "a")
    await fleet.add(tmp_path / "b")
    results = await asyncio.gather(*(fleet.client.call("caller", "do") for _ in range(20)))
    assert {result.outcome for result in results} == {OutcomeKind.OK}
    assert results[0].result == {"ok": {"action": "do", "data": [1]}}


async def test_the_trace_of_a_call_elsewhere_is_whole_and_each_worker_exports_its_part(
    fleet: Fleet, tmp_path: Path
) -> None:
    write_plugin(tmp_path / "a", "caller", calling("far"), needing("far", optional=True))
    write_plugin(tmp_path / "b", "far", calling("near"), needing("near"))
    write_plugin(tmp_path / "b", "near")
    await fleet.add(tmp_path / "a")
    await fleet.add(tmp_path / "b")
    result = await fleet.client.call("caller", "do")
    assert result.trace is not None
    names = [(depth, span.name) for depth, span in result.trace.walk()]
    assert names == [
        (0, "send warren.requests"),
        (1, "process warren.plugin.caller"),
        (2, "run caller"),
        (3, "call_plugin"),
        (4, "send warren.requests"),
        (5, "process warren.plugin.far"),
        (6, "run far"),
        (7, "call_plugin"),
        (8, "run near"),
    ]
    exported = {folder: sorted(span.name for span in spans) for folder, spans in fleet.spans.items()}
    reply = next(span.name for span in fleet.spans["b"] if span.name.startswith("send "))
    assert exported["b"] == sorted(["process warren.plugin.far", "run far", "call_plugin", "run near", reply])
    assert exported["a"][:2] == ["call_plugin", "process warren.plugin.caller"]
    assert exported["a"].count("send warren.requests") == 1
    everything = Trace(result.trace.trace_id, tuple(span for spans in fleet.spans.values() for span in spans))
    assert len({span.context.span_id for span in everything.spans}) == len(everything.spans)


@asynccontextmanager
async def far_mailbox(fleet: Fleet) -> AsyncIterator[asyncio.Queue[Message]]:
    """What comes to the mailbox of the plugin `far`, which nobody else serves."""
    heard: asyncio.Queue[Message] = asyncio.Queue()
    looking = await connect(fleet.url)
    await looking.declare(mailbox_topology(NAMES, "far"))
    await looking.consume(NAMES.mailbox("far"), lambda delivery: heard.put_nowait(delivery.message), prefetch=1)
    yield heard
    await looking.close()


async def test_depth_and_the_time_that_is_left_travel_with_the_request(fleet: Fleet, tmp_path: Path) -> None:
    write_plugin(tmp_path / "a", "caller", calling("far", version_req="1.2"), needing("far", optional=True))
    await fleet.add(tmp_path / "a")
    request = request_message(NAMES, "caller", "do", None, deadline_ms=5_000, hops=3)
    async with far_mailbox(fleet) as heard:
        await (await fleet.look()).publish(request)
        message = await asyncio.wait_for(heard.get(), LIMIT_S)
        reply = Message(b"no answer", routing_key=message.reply_to or "", correlation_id=message.correlation_id)
        await (await fleet.look()).publish(reply)
    assert message.headers[Header.HOPS] == 4
    assert message.headers[Header.VERSION] == "^1.2"
    assert 0 < message.headers[Header.DEADLINE] <= 5_000
    assert message.expiration_ms is not None
    assert message.expiration_ms <= 5_000


@pytest.mark.parametrize(
    ("result", "code", "sentence"),
    [
        ({"outcome": OutcomeKind.FAILED, "body": b'{"success":false,"result":null,"error":"no"}'}, "failed", "no"),
        ({"outcome": OutcomeKind.TRAP, "body": failure_body("broken")}, "trap", "broken"),
        ({"outcome": OutcomeKind.OK, "body": b"[]"}, "unavailable", "an answer must be an object"),
        ({"outcome": OutcomeKind.OK, "body": b"{}"}, "ok", ""),
    ],
)
async def test_whatever_comes_back_is_an_answer_or_an_error_of_its_outcome(
    fleet: Fleet, tmp_path: Path, result: Any, code: str, sentence: str
) -> None:
    write_plugin(tmp_path / "a", "caller", relaying("far"), needing("far", optional=True))
    await fleet.add(tmp_path / "a")
    async with far_mailbox(fleet) as heard:
        call = asyncio.create_task(fleet.client.call("caller", "do"))
        request = await asyncio.wait_for(heard.get(), LIMIT_S)
        await (await fleet.look()).publish(result_message(NAMES, request, plugin="far", action="do", **result))
        answered = (await call).result
    if code == "ok":
        assert answered == {"ok": None}
    else:
        assert answered["error"]["code"] == code
        assert sentence in answered["error"]["message"]


def test_the_words_of_a_plugin_that_failed_are_in_its_answer_and_no_error_of_its_run() -> None:
    request = request_message(NAMES, "far", "do", None, reply_to="here")
    for kind, told in ((OutcomeKind.FAILED, None), (OutcomeKind.TRAP, "s3cret")):
        body = b'{"success":false,"result":null,"error":"s3cret"}'
        message = result_message(NAMES, request, plugin="far", action="do", outcome=kind, body=body)
        assert elsewhere._outcome(read_result(message)).error == told


async def test_nobody_who_serves_it_is_an_error_that_the_caller_reads(fleet: Fleet, tmp_path: Path) -> None:
    write_plugin(tmp_path / "a", "caller", relaying("far"), needing("far", optional=True))
    await fleet.add(tmp_path / "a")
    answered = (await fleet.client.call("caller", "do")).result
    assert answered == {"error": {"code": "rejected", "message": "no plugin 'far' is served here"}}


async def test_nobody_who_answers_in_time_ends_the_caller_and_not_its_worker(fleet: Fleet, tmp_path: Path) -> None:
    write_plugin(tmp_path / "a", "caller", relaying("far"), needing("far", optional=True))
    write_plugin(tmp_path / "a", "plain")
    await fleet.add(tmp_path / "a")
    async with far_mailbox(fleet):
        late = await fleet.client.call("caller", "do", deadline_ms=50)
        assert (await fleet.client.call("plain", "do")).ok
    assert late.outcome == "deadline_exceeded" or late.result["error"]["code"] == "deadline_exceeded"


async def test_a_bus_that_fails_is_an_error_and_the_next_call_is_made(fleet: Fleet, tmp_path: Path) -> None:
    write_plugin(tmp_path / "a", "caller", relaying("far"), needing("far", optional=True))
    write_plugin(tmp_path / "b", "far")
    failing = [BrokerUnreachable("amqp://there", "it is away")]

    class Unsteady(MemoryTransport):
        async def consume(self, queue: str, on_delivery: Callable[[Delivery], None], *, prefetch: int) -> Consumer:
            if queue == DIRECT_REPLY_TO and failing:
                raise failing.pop()
            return await super().consume(queue, on_delivery, prefetch=prefetch)

    await fleet.add(tmp_path / "a", Unsteady(shared_broker(fleet.url.removeprefix("memory://"))))
    await fleet.add(tmp_path / "b")
    answered = (await fleet.client.call("caller", "do")).result
    assert answered["error"]["code"] == "unavailable"
    assert "it is away" in answered["error"]["message"]
    assert (await fleet.client.call("caller", "do")).result == {"ok": 1}


async def test_plugins_of_two_workers_that_call_each_other_come_to_an_end(fleet: Fleet, tmp_path: Path) -> None:
    write_plugin(tmp_path / "a", "ping", relaying("pong"), needing("pong", optional=True))
    write_plugin(tmp_path / "b", "pong", relaying("ping"), needing("ping", optional=True))
    workers = [await fleet.add(tmp_path / "a"), await fleet.add(tmp_path / "b")]
    answered = (await fleet.client.call("ping", "do")).result
    for _ in range(8):
        answered = answered["ok"]
    assert answered["error"]["code"] == "too_deep"
    assert sum(sum_of(worker, "warren_requests_total") for worker in workers) == 9


async def test_what_the_callee_sends_and_logs_is_its_own(
    fleet: Fleet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    send, sent = ask("send_message", '{"topic":"from.callee","payload":1}')
    said = data(2048, "hello")
    say = f"(drop {send}) (call $say (i32.const 2048) (i32.const 5)) (call $answer)"
    write_plugin(tmp_path / "a", "callee", wat(say, more=sent + said), PUBLISHES)
    write_plugin(tmp_path / "a", "caller", calling("callee"), needing("callee"))
    worker = await fleet.add(tmp_path / "a")
    async with fleet.client.events("#") as events:
        with caplog.at_level(logging.INFO, "warren.guest"):
            assert (await fleet.client.call("caller", "do")).ok
        event = await asyncio.wait_for(anext(aiter(events)), LIMIT_S)
    assert (event.from_, event.topic, event.hops) == ("callee", "from.callee", 1)
    assert [(one.name, one.message) for one in caplog.records if one.name.startswith("warren.guest")] == [
        ("warren.guest.callee", "hello"),
        ("warren.guest.caller", '{"ok":1}'),
    ]
    assert sum_of(worker, "warren_guest_messages_total", "callee") == 1


def sum_of(worker: Worker, name: str, *labels: str) -> float:
    counts = worker.metrics.snapshot()[name]
    return sum(count for found, count in counts.items() if not labels or found == labels)  # type: ignore[misc]
