"""Workers that are told to stop under load, and workers that stand still for longer than the broker has patience."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from tests.broker import PrivateNode
from tests.faults.broker_log import BrokerLog
from tests.faults.digger import DIGGER
from tests.faults.ledger import ledger
from tests.faults.queue_contents import queue_contents
from tests.worker_process import worker_process
from warren.bus import Delivery, Message, Queue, Topology
from warren.bus.amqp import AmqpTransport

pytestmark = [pytest.mark.broker, pytest.mark.usefixtures("amqp_path")]

#: Requests that wait when the first worker starts: enough for it to be in the midst of them when its fault comes.
BACKLOG: Final = 400
BEGUN: Final = 20

#: How often a transport is closed; acks that came to nothing did so every third time. Nobody has that queue.
CLOSINGS: Final = 5
DISCARDED: Final = "nobody"

#: How long a worker may keep a delivery unsettled, and how often that is looked at. RabbitMQ has half an hour, and a
#: minute.
CONSUMER_TIMEOUT_MS: Final = 2_000
TICK_MS: Final = 250

#: What the broker writes down when a consumer's time is up, and when it is sent a settlement that it does not know.
TIMED_OUT: Final = "timed out waiting for delivery acknowledgement"
UNKNOWN_TAG: Final = "unknown delivery tag"


async def test_sigterm_under_load_drains_every_process_and_loses_nothing(
    node: PrivateNode, prefix: str, plugins: Path
) -> None:
    async with ledger(node, prefix, DIGGER) as book:
        await book.publish(BACKLOG)
        async with (
            worker_process(plugins, node.url, prefix, "--processes", "2", "--prefetch", "50") as stopped,
            book.publishing(per_s=100),
        ):
            await book.until_ended(BEGUN)
            assert await stopped.terminate() == 0, stopped.said
        assert "drained" in stopped.said
        assert "was killed" not in stopped.said
        async with worker_process(plugins, node.url, prefix):
            await book.settled()
        assert not book.dead
        served_again = sorted(book.duplicates)
        assert not served_again, "a worker that drains acks what it has served"


async def acks_before_closing(url: str, queue: str) -> int:
    """Serve some of a backlog on a transport that leaves in the midst of it; how many acks were sent without error."""
    publishing, consuming = await AmqpTransport.connect(url), await AmqpTransport.connect(url)
    await publishing.declare(Topology(queues=(Queue(queue),)))
    await asyncio.gather(*(publishing.publish(Message(b"", "", queue)) for _ in range(BACKLOG)))
    serving: list[asyncio.Task[None]] = []
    begun = asyncio.Event()

    async def serve(delivery: Delivery) -> None:
        await publishing.publish(Message(b"", "", DISCARDED))
        delivery.ack()

    def on_delivery(delivery: Delivery) -> None:
        serving.append(asyncio.create_task(serve(delivery)))
        if len(serving) > BEGUN:
            begun.set()

    consumer = await consuming.consume(queue, on_delivery, prefetch=50)
    await begun.wait()
    await consumer.cancel()
    await asyncio.gather(*serving)
    await consuming.close()
    await publishing.close()
    return len(serving)


async def test_what_was_acked_before_a_transport_closed_stays_acked(node: PrivateNode, prefix: str) -> None:
    for number in range(CLOSINGS):
        queue = f"{prefix}.{number}"
        acks = await acks_before_closing(node.url, queue)
        contents = (await queue_contents(node, queue))[queue]
        assert (contents.ready, contents.unacked) == (BACKLOG - acks, 0), f"{acks} were acked"


@pytest.fixture
async def impatient_node(node: PrivateNode) -> AsyncIterator[PrivateNode]:
    """Its consumers' time is up after two seconds. (As a queue's argument it is not enforced by 3.10.)"""
    set_both = (
        "application:set_env(rabbit, consumer_timeout, {}), application:set_env(rabbit, channel_tick_interval, {})."
    )
    await node.ctl("eval", set_both.format(CONSUMER_TIMEOUT_MS, TICK_MS))
    yield node
    await node.ctl("eval", set_both.format(1_800_000, 60_000))


async def test_a_worker_frozen_past_the_consumer_timeout_goes_on_and_costs_nothing(
    impatient_node: PrivateNode, prefix: str, plugins: Path
) -> None:
    node = impatient_node
    log = await BrokerLog.of(node)
    async with ledger(node, prefix, DIGGER) as book:
        await book.publish(BACKLOG)
        async with worker_process(plugins, node.url, prefix) as frozen:
            await book.until_ended(BEGUN)
            frozen.process.send_signal(signal.SIGSTOP)
            try:
                async with worker_process(plugins, node.url, prefix) as other:
                    await log.until(TIMED_OUT)
                    frozen.process.send_signal(signal.SIGCONT)
                    await book.settled()
                    assert await other.terminate() == 0, other.said
            finally:
                frozen.process.send_signal(signal.SIGCONT)
            await book.publish(BEGUN)
            await book.settled()
            assert await frozen.terminate() == 0, frozen.said
        assert not book.dead
    assert not log.count(UNKNOWN_TAG)
