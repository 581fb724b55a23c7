"""What somebody does on the broker by hand, beside Warren and with nothing of Warren's."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import pika
from pika.exceptions import ChannelClosedByBroker, NackError

from tests.broker import PrivateNode
from tests.faults.queue_contents import Contents, queue_contents

#: For the broker to look as it is expected to.
LIMIT_S: Final = 20.0

#: RabbitMQ 3.10's own limits.
MEMORY_WATERMARK: Final = 0.4
MAX_MESSAGE_BYTES: Final = 134_217_728

#: What fills a queue. It is no request; a worker answers that.
IN_THE_WAY: Final = b"in the way"


async def on_channel(url: str, operation: Callable[[Any], object]) -> None:
    """Do it on a channel with confirms, on a connection made for it."""

    def do() -> None:
        connection = pika.BlockingConnection(pika.URLParameters(url))
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            operation(channel)
        finally:
            connection.close()

    await asyncio.to_thread(do)


def publish_requests(channel: Any, exchange: str, key: str, count: int, *, reply_to: str | None = None) -> None:
    """Publish that many requests, with ids that begin with `request-`."""
    for number in range(count):
        properties = pika.BasicProperties(message_id=f"request-{number}", delivery_mode=2, reply_to=reply_to)
        channel.basic_publish(exchange, key, b'{"action":"work","data":null}', properties)


async def until_it_stands(url: str, find: Callable[[Any], object]) -> None:
    """Return once `find` finds on the broker what it looks for."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                return await on_channel(url, find)
            except ChannelClosedByBroker:
                await asyncio.sleep(0.02)


async def until_queues_hold(node: PrivateNode, prefix: str, wanted: Callable[[dict[str, Contents]], bool]) -> None:
    """Return once the contents of those queues are as wanted."""
    deadline = time.monotonic() + LIMIT_S  # rabbitmqctl is not to be cancelled in its midst
    while not wanted(contents := await queue_contents(node, prefix)):
        assert time.monotonic() < deadline, f"after {LIMIT_S:g} s the queues hold {contents}"


async def until_empty(node: PrivateNode, prefix: str) -> None:
    """Return once nothing is in any queue, neither ready nor unsettled."""
    await until_queues_hold(node, f"{prefix}.", lambda queues: set(queues.values()) <= {Contents(0, 0)})


async def connections(node: PrivateNode) -> dict[str, str]:
    """The broker's connections: the name that each gave itself, and the broker's process that serves it."""
    listed = await node.ctl("list_connections", "--no-table-headers", "pid", "client_properties")
    named = (re.search(r'(<[^>]+>)\t.*"connection_name","([^"]+)"', line) for line in listed.splitlines())
    return {match[2]: match[1] for match in named if match}


@asynccontextmanager
async def memory_alarm(node: PrivateNode) -> AsyncIterator[None]:
    """The broker reads nothing more from connections that publish."""
    await node.ctl("set_vm_memory_high_watermark", "0.0000001")
    try:
        yield
    finally:
        await lift_memory_alarm(node)


async def lift_memory_alarm(node: PrivateNode) -> None:
    await node.ctl("set_vm_memory_high_watermark", str(MEMORY_WATERMARK))


@asynccontextmanager
async def largest_message(node: PrivateNode, limit_bytes: int) -> AsyncIterator[None]:
    """The broker refuses what is larger, on channels that are opened from now on."""
    await _limit_messages(node, limit_bytes)
    try:
        yield
    finally:
        await _limit_messages(node, MAX_MESSAGE_BYTES)


async def _limit_messages(node: PrivateNode, limit_bytes: int) -> None:
    # RabbitMQ 3 looks at the first, RabbitMQ 4 at the second.
    await node.ctl(
        "eval",
        f"application:set_env(rabbit, max_message_size, {limit_bytes}), "
        f"persistent_term:put(max_message_size, {limit_bytes}).",
    )


@asynccontextmanager
async def full(node: PrivateNode, queue: str) -> AsyncIterator[None]:
    """Make it full with what there is, and refuse more; the limit is raised afterwards.

    Taken away, it would keep a quorum queue from telling publishers that there is room again.
    """
    await _limit_length(node, queue, 1)
    try:
        await on_channel(node.url, lambda channel: _fill(channel, queue))
        yield
    finally:
        await _limit_length(node, queue, 1_000_000)


async def _limit_length(node: PrivateNode, queue: str, limit: int) -> None:
    pattern = f"^{re.escape(queue)}$"
    await node.ctl("set_policy", queue, pattern, f'{{"max-length":{limit}}}', "--apply-to", "queues")


def _fill(channel: Any, queue: str) -> None:
    """A quorum queue learns late that it is full."""
    with suppress(NackError):
        while True:
            channel.basic_publish("", queue, IN_THE_WAY)
