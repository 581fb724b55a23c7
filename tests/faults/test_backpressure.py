"""A broker that takes no more: queues that are full, a memory alarm, messages that are too large."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.broker import PrivateNode
from tests.faults.by_hand import (
    full,
    largest_message,
    lift_memory_alarm,
    memory_alarm,
    on_channel,
    publish_requests,
    until_queues_hold,
)
from tests.faults.digger import DIGGER
from tests.faults.ledger import ledger
from tests.faults.proxy import Proxy, Way
from tests.faults.queue_contents import Contents, queue_contents
from tests.faults.serving import serving, until_impeded
from tests.guests import answering, ask, wat, write_plugin
from warren.bus import (
    Client,
    Message,
    MessageTooLarge,
    Names,
    PublishRefused,
    PublishTimeout,
    Queue,
    Topology,
    base_topology,
    mailbox_topology,
)
from warren.bus.amqp import AmqpTransport

pytestmark = [pytest.mark.broker, pytest.mark.usefixtures("amqp_path")]

#: For what is to happen soon.
LIMIT_S: Final = 20.0

MIB: Final = 1 << 20

#: RabbitMQ 4's own limit.
LARGEST_BYTES: Final = 16 * MIB

#: Bodies smaller than any guest's memory, for a limit that a guest can exceed.
SMALL_LIMIT_BYTES: Final = 65_536
LONG_ANSWER: Final = b'{"success":true,"result":"%b","error":null}' % (b"x" * 100_000)


@pytest.fixture
async def transport(node: PrivateNode, amqp_path: str) -> AsyncIterator[AmqpTransport]:
    transport = await AmqpTransport.connect(node.url)
    yield transport
    await transport.close()


class Counter:
    """How often a message for that address has passed to the broker."""

    def __init__(self, exchange: str, key: str) -> None:
        names = b"".join(bytes([len(name)]) + name.encode() for name in (exchange, key))
        self._publish = struct.pack(">HHH", 60, 40, 0) + names
        self.count = 0

    def __call__(self, way: Way, data: bytes) -> bytes:
        if way is Way.TO_BROKER:
            self.count += data.count(self._publish)
        return data

    async def reaches(self, count: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while self.count < count:  # noqa: ASYNC110 - bytes tell nobody
                await asyncio.sleep(0.02)


async def test_a_publisher_to_a_full_queue_is_told_and_what_was_confirmed_is_there(
    transport: AmqpTransport, prefix: str
) -> None:
    await transport.declare(Topology(queues=(Queue(prefix, max_length=5),)))
    confirmed: set[bytes] = set()
    refused = 0
    for number in range(50):
        body = str(number).encode()
        try:
            await transport.publish(Message(body, "", prefix), mandatory=True)
        except PublishRefused:
            refused += 1
        else:
            confirmed.add(body)
    assert refused
    taken: set[bytes] = set()
    consumer = await transport.consume(prefix, lambda delivery: taken.add(delivery.message.body), prefetch=100)
    async with asyncio.timeout(LIMIT_S):
        while taken != confirmed:  # noqa: ASYNC110 - a set tells nobody
            await asyncio.sleep(0.02)
    await consumer.cancel()


async def test_a_result_for_a_full_queue_is_kept_and_tried_again_now_and_then(
    node: PrivateNode, prefix: str, plugins: Path
) -> None:
    replies = f"{prefix}.replies"
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    publishes = Counter("", replies)
    got: list[tuple[str | None, bytes]] = []

    def fill(channel: Any) -> None:
        channel.queue_declare(replies, durable=True, arguments=full)
        channel.basic_publish("", replies, b"in the way")
        publish_requests(channel, Names(prefix).requests, f"{DIGGER}.work", 1, reply_to=replies)

    def take(channel: Any) -> None:
        for _, properties, body in channel.consume(replies, auto_ack=True, inactivity_timeout=LIMIT_S):
            if properties is None:
                return
            got.append((properties.correlation_id, body))
            if len(got) == 2:
                return

    async with (
        Proxy(node.url).listening() as proxy,
        ledger(node, prefix, DIGGER) as book,
        serving(proxy.url, prefix, plugins),
    ):
        proxy.tamper = publishes
        began = time.monotonic()
        await on_channel(node.url, fill)
        await publishes.reaches(3)
        assert time.monotonic() - began > 1.0, "it is tried again and again without a pause"
        await book.publish(20)
        await book.until_ended(20)  # others are not kept waiting
        await on_channel(node.url, take)
        assert [reply[0] for reply in got] == [None, "request-0"]
        await book.settled()
        assert not book.dead


async def test_callers_of_a_plugin_whose_mailbox_is_full_are_told_and_later_ones_are_served(
    node: PrivateNode, prefix: str, plugins: Path, transport: AmqpTransport
) -> None:
    names = Names(prefix)
    await transport.declare(base_topology(names) + mailbox_topology(names, DIGGER))
    async with Client(node.url, prefix=prefix, timeout_s=LIMIT_S) as client:
        async with full(node, names.mailbox(DIGGER)):
            with pytest.raises(PublishRefused, match="its queue may be full"):
                await client.call(DIGGER, "work")
        async with serving(node.url, prefix, plugins):
            assert (await client.call(DIGGER, "work")).ok


async def test_requests_whose_dead_letters_find_a_full_queue_are_kept_until_there_is_room(
    node: PrivateNode, prefix: str, tmp_path: Path
) -> None:
    names = Names(prefix)
    write_plugin(tmp_path, "broken", wat("unreachable"))

    async with serving(node.url, prefix, tmp_path):
        async with full(node, names.dead):
            in_the_way = (await queue_contents(node, names.dead))[names.dead].ready
            await on_channel(node.url, lambda channel: publish_requests(channel, names.requests, "broken.work", 10))
            held = (await queue_contents(node, prefix))[names.mailbox("broken")]
            assert held.ready + held.unacked == 10
        await until_queues_hold(node, prefix, lambda queues: queues[names.mailbox("broken")] == Contents(0, 0))
        assert (await queue_contents(node, names.dead))[names.dead].ready >= in_the_way + 10


async def test_a_memory_alarm_keeps_results_back_and_costs_none(
    node: PrivateNode, prefix: str, plugins: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("warren.bus.amqp.PUBLISH_LIMIT_S", 2.0)
    mailbox = Names(prefix).mailbox(DIGGER)
    async with ledger(node, prefix, DIGGER) as book:
        await book.publish(200)
        async with memory_alarm(node), serving(node.url, prefix, plugins, prefetch=50) as transport:
            await until_impeded(transport, impeded=True)
            with pytest.raises(PublishTimeout, match=r"no confirmation within 0.5 s"):
                await transport.publish(Message(b"", f"{prefix}.events", "nobody.hears"), timeout_s=0.5)
            async with asyncio.timeout(LIMIT_S):
                while "goes back to" not in caplog.text:  # noqa: ASYNC110 - a log
                    await asyncio.sleep(0.02)
            assert not book.results
            held = (await queue_contents(node, mailbox))[mailbox]
            assert held.ready + held.unacked == 200
            # Deliveries go back and come again meanwhile.
            assert 0 < await transport.depth(mailbox) <= 200
            assert caplog.text.count("goes back to") == 1, "a line for each delivery that comes to nothing"
            await lift_memory_alarm(node)
            await until_impeded(transport, impeded=False)
            await book.settled()
        assert not book.dead


async def test_a_memory_alarm_under_load_costs_no_result(node: PrivateNode, prefix: str, plugins: Path) -> None:
    async with ledger(node, prefix, DIGGER) as book, serving(node.url, prefix, plugins) as transport:
        async with book.publishing(per_s=200):
            for _ in range(2):
                await book.until_ended(len(book.ended) + 20)
                async with asyncio.TaskGroup() as held_back, memory_alarm(node):
                    # The requests are held back, too. The broker tells a connection that it is blocked as it publishes.
                    held_back.create_task(transport.publish(Message(b"", f"{prefix}.events", "nobody.hears")))
                    await until_impeded(transport, impeded=True)
                await until_impeded(transport, impeded=False)
            await book.until_ended(len(book.ended) + 20)
        await book.settled()
        assert not book.dead


async def test_a_message_that_is_too_large_for_the_broker_is_refused_and_its_neighbours_are_not(
    node: PrivateNode, prefix: str
) -> None:
    async with largest_message(node, LARGEST_BYTES), connected(node.url) as transport:
        await transport.declare(Topology(queues=(Queue(prefix),)))
        bodies = [b"small"] * 20 + [bytes(17 * MIB)] + [b"small"] * 20
        publishes = (transport.publish(Message(body, "", prefix), mandatory=True) for body in bodies)
        ends = await asyncio.wait_for(asyncio.gather(*publishes, return_exceptions=True), LIMIT_S)
        refused = ends.pop(20)
        assert isinstance(refused, MessageTooLarge)
        assert (refused.size_bytes, refused.limit_bytes) == (17 * MIB, LARGEST_BYTES)
        assert ends == [None] * 40


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AmqpTransport]:
    transport = await AmqpTransport.connect(url)
    try:
        yield transport
    finally:
        await transport.close()


async def test_an_answer_that_is_too_large_for_the_broker_ends_its_request_and_no_other(
    node: PrivateNode, prefix: str, plugins: Path
) -> None:
    write_plugin(plugins, "verbose", answering(LONG_ANSWER, at=20_000))
    publishes = Counter(f"{prefix}.results", "verbose.work.ok")
    async with (
        largest_message(node, SMALL_LIMIT_BYTES),
        Proxy(node.url).listening() as proxy,
        ledger(node, prefix, "verbose") as book,
        serving(proxy.url, prefix, plugins),
        Client(node.url, prefix=prefix) as client,
    ):
        proxy.tamper = publishes
        (verbose,) = await book.publish(1)
        neighbours = [asyncio.create_task(client.call(DIGGER, "work")) for _ in range(50)]
        await book.until_ended(1, timeout_s=LIMIT_S)
        assert {neighbour.outcome for neighbour in await asyncio.gather(*neighbours)} == {"ok"}
        await book.settled()
        told = await client.call("verbose", "work")
        assert told.outcome == "output_too_large"
        assert told.trace is not None
        spans = [span.context.span_id for span in told.trace.spans]
        assert len(set(spans)) == len(spans) >= 3
        assert [ending.why for ending in book.results[verbose] + book.dead[verbose]] == ["output_too_large"] * 2
        assert b"the broker takes at most 65,536" in book.results[verbose][0].body
        assert publishes.count == 1


async def test_a_plugins_message_that_is_too_large_for_the_broker_is_told_in_the_trace_of_its_result(
    node: PrivateNode, prefix: str, plugins: Path
) -> None:
    call, text = ask("send_message", b'{"topic":"news","payload":"%b"}' % (b"x" * 100_000), at=20_000)
    write_plugin(plugins, "chatty", wat(f"(drop {call}) (call $answer)", more=text), '[bus]\npublish = ["news"]')
    async with (
        largest_message(node, SMALL_LIMIT_BYTES),
        serving(node.url, prefix, plugins),
        Client(node.url, prefix=prefix) as client,
    ):
        result = await client.call("chatty", "work")
    assert result.ok
    assert result.trace is not None
    (sent,) = [span for span in result.trace.spans if span.name == f"send {prefix}.events"]
    assert "the broker takes at most 65,536" in (sent.error or "")
