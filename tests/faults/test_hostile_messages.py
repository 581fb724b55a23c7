"""What a publisher can do to a worker with a message that no library of good manners would send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pika
import pytest

from tests.broker import Broker
from tests.conformance.inbox import Inbox
from tests.guests import wat, write_plugin
from warren.bus import Client, Header, Message, Names, connect
from warren.plugins import PluginManager
from warren.workers.settings import WorkerSettings
from warren.workers.worker import Worker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]

LIMIT_S = 30.0
BODY = b'{"action":"do","data":"hostile"}'


def nested(depth: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for _ in range(depth):
        table = {"a": table}
    return table


def publish(url: str, exchange: str, routing_key: Any, **properties: Any) -> None:
    """Publish one message with pika, which checks little, and wait until the broker has it."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(exchange, routing_key, BODY, pika.BasicProperties(**properties))
    finally:
        connection.close()


@asynccontextmanager
async def serving(url: str, prefix: str, plugins: Path, *, warm_up: bool = True) -> AsyncIterator[tuple[Client, Inbox]]:
    """A worker on a connection of its own, a client, and what is dead-lettered."""
    settings = WorkerSettings(plugins, url, prefix=prefix, grace_s=LIMIT_S)
    transport, looking = await connect(url), await connect(url)
    try:
        async with PluginManager(plugins) as manager, Client(url, prefix=prefix, timeout_s=LIMIT_S) as client:
            worker = Worker(transport, manager, settings)
            await worker.start()
            if warm_up:
                await client.call("plain", "do")
                await until_steady(worker)
            yield client, await Inbox.of(looking, Names(prefix).dead)
            await worker.drain()
    finally:
        await transport.close()
        await looking.close()


async def until_steady(worker: Worker) -> None:
    """Return once its mailboxes take several at a time. As one begins to, RabbitMQ may take a delivery back."""
    async with asyncio.timeout(LIMIT_S):
        while any(mailbox._adapting for mailbox in worker._plugins._mailboxes.values()):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def until_dead(dead: Inbox) -> Message:
    delivery = await dead.next()
    delivery.ack()
    return delivery.message


@pytest.mark.parametrize(
    ("properties", "unreadable"),
    [
        ({"message_id": b"\xff\xfe"}, "message_id"),
        ({"correlation_id": b"\x80" * 16, "message_id": "one"}, "correlation_id"),
        ({"type": b"\xc3("}, "message_type"),
        ({"timestamp": 2**63, "headers": {"mine": 1}}, "timestamp"),
        ({"timestamp": 2**62, "message_id": b"\xff"}, "message_id, timestamp"),
        ({"headers": {b"\xff": 1}}, "headers"),
        ({"headers": nested(300)}, "headers"),
    ],
    ids=str,
)
async def test_a_message_that_cannot_be_read_is_dead_lettered_and_its_neighbours_are_served(
    broker: Broker, prefix: str, tmp_path: Path, properties: dict[str, Any], unreadable: str
) -> None:
    write_plugin(tmp_path, "plain")
    async with serving(broker.url, prefix, tmp_path) as (client, dead):
        before = [asyncio.create_task(client.call("plain", "do")) for _ in range(20)]
        await asyncio.to_thread(publish, broker.url, f"{prefix}.requests", "plain.do", **properties)
        results = await asyncio.gather(*before, *(client.call("plain", "do") for _ in range(20)))
        letter = await until_dead(dead)
    assert {(result.outcome, result.attempt) for result in results} == {("ok", 1)}
    assert (letter.body, letter.headers[Header.OUTCOME]) == (BODY, "rejected")
    assert letter.headers[Header.ERROR] == f"properties of the message that cannot be read: {unreadable}"
    assert letter.headers.get("mine") == properties.get("headers", {}).get("mine")


@pytest.mark.parametrize("key", [b"plain.\xff", b"\xff.do", b"\xff" * 255, b"a" * 255, b"UPPER.do"], ids=str)
async def test_a_routing_key_that_names_nothing_is_rejected_and_its_neighbours_are_served(
    broker: Broker, prefix: str, tmp_path: Path, key: bytes
) -> None:
    write_plugin(tmp_path, "plain")
    async with serving(broker.url, prefix, tmp_path) as (client, dead):
        before = [asyncio.create_task(client.call("plain", "do")) for _ in range(20)]
        await asyncio.to_thread(publish, broker.url, f"{prefix}.requests", key, message_id="one")
        letter = await until_dead(dead)
        results = await asyncio.gather(*before)
    assert {(result.outcome, result.attempt) for result in results} == {("ok", 1)}
    assert (letter.body, letter.headers[Header.OUTCOME], letter.headers[Header.ATTEMPT]) == (BODY, "rejected", 1)


@pytest.mark.parametrize("plugin", ["plain", "ghost"])
@pytest.mark.parametrize(
    "headers",
    [{"large": "x" * 130_000}, {f"h{number}": "" for number in range(9_000)}, {"warren-version": "9" * 120_000}],
    ids=["one", "many", "version"],
)
async def test_headers_that_fill_a_frame_are_rejected_and_do_not_cost_the_connection(
    broker: Broker, prefix: str, tmp_path: Path, headers: dict[str, Any], plugin: str
) -> None:
    write_plugin(tmp_path, "plain")
    async with serving(broker.url, prefix, tmp_path) as (client, dead):
        await asyncio.to_thread(publish, broker.url, f"{prefix}.requests", f"{plugin}.do", headers=headers)
        letter = await until_dead(dead)
        result = await client.call("plain", "do")
    assert (result.outcome, result.attempt) == ("ok", 1)
    assert (letter.body, letter.headers[Header.OUTCOME], letter.headers[Header.ATTEMPT]) == (BODY, "rejected", 1)
    assert "at most 65,536 are allowed" in letter.headers[Header.ERROR]


async def test_headers_that_are_odd_but_readable_go_along_into_the_dead_letter(
    broker: Broker, prefix: str, tmp_path: Path
) -> None:
    write_plugin(tmp_path, "broken", wat("unreachable"))
    headers = {"array": [1, {"x": None}], "large": "x" * 60_000, "bytes": b"\xff"}
    async with serving(broker.url, prefix, tmp_path, warm_up=False) as (_, dead):
        await asyncio.to_thread(publish, broker.url, f"{prefix}.requests", "broken.do", headers=headers)
        letter = await until_dead(dead)
    assert letter.headers[Header.OUTCOME] == "trap"
    assert letter.headers["array"] == [1, {"x": None}]
    assert letter.headers["large"] == headers["large"]


async def test_traces_of_a_hostile_publisher_cost_nobody_a_result(broker: Broker, prefix: str, tmp_path: Path) -> None:
    write_plugin(tmp_path, "plain")
    hostile = [
        {"traceparent": "00-" + "f" * 500, "tracestate": "=" * 60_000},
        {"traceparent": 7, "tracestate": {"a": [1]}},
        {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "\x00=\u2028,,,;"},
        {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "k=" + "v" * 510},
    ]
    async with serving(broker.url, prefix, tmp_path) as (client, _), client.results() as results:
        for headers in hostile:
            await asyncio.to_thread(publish, broker.url, f"{prefix}.requests", "plain.do", headers=headers)
            assert (await asyncio.wait_for(anext(results), LIMIT_S)).ok
