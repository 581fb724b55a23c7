"""The client, over each transport, with a worker that only echoes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import TracerProvider  # noqa: TID251  as a program does that uses the client

from tests.conformance.inbox import Connect, Inbox, Post
from warren.bus import (
    CallTimeout,
    Client,
    Exchange,
    Header,
    MalformedMessage,
    Message,
    Names,
    OutcomeKind,
    Request,
    Span,
    Topology,
    TopologyConflict,
    Trace,
    TraceContext,
    TransportClosed,
    UnknownPlugin,
    encode_trace,
    mailbox_topology,
    read_request,
    read_trace_context,
    result_message,
)


@pytest.fixture
async def client(url: str, prefix: str) -> AsyncIterator[Client]:
    async with Client(url, prefix=prefix, timeout_s=20) as client:
        yield client


def answer(names: Names, request: Request) -> list[Message]:
    """The data of the request, as the result."""
    trace = read_trace_context(request.message.headers)
    assert trace is not None
    context = trace.child()
    span = Span("run", context, trace.span_id, "consumer", 0, 0, {})
    result = result_message(
        names,
        request.message,
        plugin=request.plugin,
        action=request.action,
        outcome=OutcomeKind.OK,
        body=b'{"success":true,"result":%b,"error":null}' % request.body,
        trace_json=encode_trace(Trace(context.trace_id, (span,))),
        context=context,
    )
    return [result]


@asynccontextmanager
async def worker(post: Post, work: Callable[[Names, Request], list[Message]] = answer) -> AsyncIterator[None]:
    """Serves the plugin `echo` as long as the context is open."""
    names = Names(post.prefix)
    await post.transport.declare(mailbox_topology(names, "echo"))
    inbox = await Inbox.of(post.transport, names.mailbox("echo"))

    async def serve() -> None:
        while True:
            delivery = await inbox.next()
            for message in work(names, read_request(delivery.message, "echo")):
                await post.transport.publish(message)
            delivery.ack()

    task = asyncio.create_task(serve())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_call_comes_back_with_its_result(client: Client, post: Post) -> None:
    async with worker(post):
        result = await client.call("echo", "say", {"a": [1, "ü"]}, version="^1")
    assert (result.ok, result.plugin, result.action) == (True, "echo", "say")
    assert result.result == {"action": "say", "data": {"a": [1, "ü"]}}


async def test_many_calls_at_once_each_get_their_own_result(client: Client, post: Post) -> None:
    async with worker(post):
        results = await asyncio.gather(*(client.call("echo", "say", number) for number in range(50)))
    assert [result.result["data"] for result in results] == list(range(50))


async def test_the_trace_of_a_call_begins_with_its_sending(client: Client, post: Post) -> None:
    parent = TraceContext.new()
    async with worker(post):
        result = await client.call("echo", "say", trace=parent)
    assert result.trace is not None
    (_, sending), (_, run) = walked = list(result.trace.walk())
    assert [depth for depth, _ in walked] == [0, 1]
    assert (sending.name, sending.kind) == (f"send {post.prefix}.requests", "producer")
    assert (sending.context.trace_id, sending.parent_id) == (parent.trace_id, parent.span_id)
    assert run.parent_id == sending.context.span_id
    assert sending.attributes["messaging.destination.name"] == f"{post.prefix}.requests:echo.say"
    assert sending.attributes["messaging.message.id"] == result.correlation_id


@pytest.mark.parametrize("told", [None, encode_trace(Trace("1" * 32, ()))])
async def test_a_worker_that_tells_no_trace_of_ours_costs_nobody_the_result(
    client: Client, post: Post, told: str | None
) -> None:
    def untold(names: Names, request: Request) -> list[Message]:
        (result,) = answer(names, request)
        return [replace(result, headers={**result.headers, Header.TRACE: told})]

    async with worker(post, untold):
        result = await client.call("echo", "say", 1)
    assert result.ok
    assert result.trace is not None
    assert len(result.trace.spans) == (1 if told is None else 0)


async def test_a_call_continues_the_span_of_the_program(
    client: Client, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = TracerProvider()
    monkeypatch.setattr(otel, "get_tracer", provider.get_tracer)
    async with worker(post):
        with provider.get_tracer("program").start_as_current_span("program") as span:
            result = await client.call("echo", "say")
    provider.shutdown()
    assert result.trace is not None
    _, sending = next(result.trace.walk())
    assert (sending.context.trace_id, sending.parent_id) == (
        otel.format_trace_id(span.get_span_context().trace_id),
        otel.format_span_id(span.get_span_context().span_id),
    )


async def test_a_trace_without_an_sdk_still_continues_the_current_span(client: Client, post: Post) -> None:
    current = otel.NonRecordingSpan(otel.SpanContext(1, 2, is_remote=True, trace_flags=otel.TraceFlags(1)))
    async with worker(post):
        with otel.use_span(current):
            result = await client.call("echo", "say")
    assert result.trace is not None
    _, sending = next(result.trace.walk())
    assert (int(sending.context.trace_id, 16), int(sending.parent_id or "", 16)) == (1, 2)
    assert sending.context.span_id != sending.parent_id


async def test_a_call_that_nobody_answers_times_out_and_its_request_expires(client: Client, post: Post) -> None:
    with pytest.raises(CallTimeout, match=r"no result from nobody\.say within 0\.05 s"):
        await client.call("nobody", "say", timeout_s=0.05)
    assert client._waiting == {}
    dead = await (await Inbox.of(post.transport, Names(post.prefix).dead)).next()
    assert dead.message.headers["x-first-death-reason"] == "expired"


async def test_a_cancelled_call_leaves_nothing_behind(client: Client, post: Post) -> None:
    call = asyncio.create_task(client.call("nobody", "say"))
    await (await Inbox.of(post.transport, Names(post.prefix).unrouted)).next()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert client._waiting == {}


async def test_late_replies_and_twins_are_dropped(client: Client, post: Post) -> None:
    def twice_and_late(names: Names, request: Request) -> list[Message]:
        (result,) = answer(names, request)
        return [replace(result, correlation_id="long gone"), result, result]

    async with worker(post, twice_and_late):
        for number in range(3):
            assert (await client.call("echo", "say", number)).result["data"] == number


async def test_a_reply_that_is_no_result_is_malformed(client: Client, post: Post) -> None:
    async with worker(post, lambda names, request: [replace(answer(names, request)[0], headers={})]):
        with pytest.raises(MalformedMessage, match="not a result"):
            await client.call("echo", "say")


async def test_a_call_in_flight_ends_when_its_client_is_closed(url: str, post: Post, prefix: str) -> None:
    async with Client(url, prefix=prefix) as client:
        call = asyncio.create_task(client.call("nobody", "say"))
        await (await Inbox.of(post.transport, Names(prefix).unrouted)).next()
    with pytest.raises(TransportClosed):
        await call
    with pytest.raises(TransportClosed):
        await client.call("nobody", "say")


async def test_events_that_match_are_heard_from_the_moment_of_entering(client: Client) -> None:
    trace = TraceContext.new()
    async with client.events("text.#") as events:
        await client.publish("other.topic", 1)
        message_id = await client.publish("text.done", {"words": 3}, sender="tester", trace=trace)
        event = await anext(events)
    assert (event.topic, event.payload, event.from_, event.to) == ("text.done", {"words": 3}, "tester", None)
    assert event.message_id == message_id
    assert event.trace is not None
    assert event.trace.trace_id == trace.trace_id


async def test_a_listener_passes_over_twins_and_what_is_no_event(client: Client, post: Post) -> None:
    exchange = Names(post.prefix).events
    async with client.events("#") as events:
        await post.transport.publish(Message(b"no event", exchange, "text"))
        async with client.events("first") as first:
            await client.publish("first", 1)
            heard = await anext(first)
        body = b'{"from":"a","to":null,"topic":"t","payload":2,"timestamp":"2024-05-01T12:00:00Z"}'
        for _ in range(2):
            await post.transport.publish(Message(body, exchange, "t", message_id="one id"))
        await client.publish("last", 3)
        assert [(await anext(events)).payload for _ in range(3)] == [heard.payload, 2, 3]


async def test_results_that_were_not_replies_are_heard(client: Client, post: Post) -> None:
    names = Names(post.prefix)
    async with worker(post), client.results("echo.*.ok") as results:
        await post.transport.publish(
            Message(
                b'{"action":"say"}',
                names.requests,
                "echo.say",
                message_id="id",
                headers={"traceparent": TraceContext.new().traceparent},
            )
        )
        result = await anext(results)
    assert (result.plugin, result.action, result.correlation_id) == ("echo", "say", "id")


async def test_listeners_end_when_their_client_is_closed(url: str, prefix: str) -> None:
    async with Client(url, prefix=prefix) as client:
        listener = client.events()
        await listener.__aenter__()
        waiting = asyncio.create_task(anext(listener, None))
    async with asyncio.timeout(20):
        assert await waiting is None


async def test_a_direct_message_comes_into_the_mailbox(client: Client, post: Post) -> None:
    names = Names(post.prefix)
    await post.transport.declare(mailbox_topology(names, "echo"))
    message_id = await client.send("echo", "greeting", "hello")
    delivery = await (await Inbox.of(post.transport, names.mailbox("echo"))).next()
    request = read_request(delivery.message, "echo")
    assert (request.action, request.sender, request.message.message_id) == ("on_message", "client", message_id)


async def test_a_direct_message_to_nobody_says_so(client: Client) -> None:
    with pytest.raises(UnknownPlugin, match="no worker has ever served the plugin 'nobody'"):
        await client.send("nobody", "greeting")


async def test_a_client_cannot_enter_where_the_topology_is_anothers(url: str, post: Post, prefix: str) -> None:
    await post.transport.declare(Topology(exchanges=(Exchange(Names(prefix).requests, "direct"),)))
    with pytest.raises(TopologyConflict):
        await Client(url, prefix=prefix).__aenter__()


async def test_a_borrowed_transport_stays_open(transports: Connect, prefix: str) -> None:
    transport = await transports()
    async with Client(transport=transport, prefix=prefix) as client:
        await client.publish("topic")
    post = Post(transport, prefix)
    await post.put(await post.queue(), b"open")


@pytest.mark.parametrize("pattern", ["", "a*", "a.##"])
async def test_a_pattern_that_is_none_is_refused_before_anything_is_declared(client: Client, pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        client.events(pattern)
