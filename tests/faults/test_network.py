"""Workers and clients whose connections are reset, swallowed or slow: nothing is lost, and they come back."""

from __future__ import annotations

import asyncio
import struct
import time
from pathlib import Path
from typing import Final

import pytest

from tests.broker import PrivateNode
from tests.faults.digger import DIGGER
from tests.faults.ledger import ledger
from tests.faults.proxy import Proxy, Way
from tests.faults.serving import GRACE_S, RETURN_LIMIT_S, serves_again, serving, until_impeded
from tests.guests import OK
from warren.bus import CallTimeout, Client, Message, Queue, Result, Topology
from warren.bus.amqp import AmqpTransport

pytestmark = [pytest.mark.broker, pytest.mark.usefixtures("amqp_path")]

#: The shortest there is. A client gives its connection up after thrice a second more than this, RabbitMQ after twice.
HEARTBEAT_S: Final = 1

#: After which a worker gives an attempt to connect up; and to do so, on both connections, and to try anew.
CONNECT_S: Final = 2.0
CONNECT_LIMIT_S: Final = 8.0

#: Within which a call ends that names no other limit.
CALL_LIMIT_S: Final = 3.0

#: For the farewell to a broker that does not answer, of both connections.
CLOSE_LIMIT_S: Final = 15.0

BASIC_ACK: Final = struct.pack(">HH", 60, 80)


def publish_to(exchange: str, key: str) -> bytes:
    """A basic.publish, up to its flags."""
    names = b"".join(bytes([len(name)]) + name.encode() for name in (exchange, key))
    return struct.pack(">HHH", 60, 40, 0) + names


def header_of(body: bytes) -> bytes:
    """A content header, up to its properties."""
    return struct.pack(">HHQ", 60, 0, len(body))


async def outcomes(calls: list[asyncio.Task[Result]]) -> list[Result | BaseException]:
    """How calls ended, all of them in bounded time."""
    async with asyncio.timeout(CALL_LIMIT_S + RETURN_LIMIT_S):
        return await asyncio.gather(*calls, return_exceptions=True)


def clear(outcome: Result | BaseException) -> bool:
    """Whether a caller knows what became of the call."""
    return isinstance(outcome, CallTimeout) or (isinstance(outcome, Result) and outcome.ok)


@pytest.mark.parametrize("where", ["in its method", "in its header", "in its body", "before its confirm"])
async def test_a_reset_in_the_publish_of_a_result_costs_no_result(
    node: PrivateNode, prefix: str, plugins: Path, proxy: Proxy, where: str
) -> None:
    way, pattern = {
        "in its method": (Way.TO_BROKER, publish_to(f"{prefix}.results", f"{DIGGER}.work.ok")),
        "in its header": (Way.TO_BROKER, header_of(OK)),
        "in its body": (Way.TO_BROKER, OK[:20]),
        "before its confirm": (Way.TO_CLIENT, BASIC_ACK),
    }[where]
    async with ledger(node, prefix, DIGGER) as book, serving(proxy.url, prefix, plugins):
        async with book.publishing(per_s=200):
            await serves_again(book)
            sprung = proxy.cut_after(way, pattern)
            await asyncio.wait_for(sprung.wait(), RETURN_LIMIT_S)
            await serves_again(book)
        await book.settled()
        assert bool(book.duplicates) >= (where == "before its confirm")


@pytest.mark.parametrize("where", ["in its method", "in its body", "before its confirm"])
async def test_a_reset_in_the_publish_of_a_request_ends_no_call_in_doubt(
    node: PrivateNode, prefix: str, plugins: Path, proxy: Proxy, where: str
) -> None:
    way, pattern = {
        "in its method": (Way.TO_BROKER, publish_to(f"{prefix}.requests", f"{DIGGER}.work")),
        "in its body": (Way.TO_BROKER, b'{"action":"wo'),
        "before its confirm": (Way.TO_CLIENT, BASIC_ACK),
    }[where]
    async with (
        serving(node.url, prefix, plugins),
        Client(proxy.url, prefix=prefix, timeout_s=CALL_LIMIT_S) as client,
    ):
        sprung = proxy.cut_after(way, pattern)
        ends = await outcomes([asyncio.create_task(client.call(DIGGER, "work")) for _ in range(100)])
        assert sprung.is_set()
        assert [end for end in ends if not clear(end)] == []
        assert (await client.call(DIGGER, "work", timeout_s=RETURN_LIMIT_S)).ok


async def test_cut_after_cut_under_load_costs_no_result(
    node: PrivateNode, prefix: str, plugins: Path, proxy: Proxy
) -> None:
    async with ledger(node, prefix, DIGGER) as book, serving(proxy.url, prefix, plugins):
        async with book.publishing(per_s=200):
            for _ in range(4):
                await serves_again(book)
                proxy.cut()
            await serves_again(book)
        await book.settled()


async def test_a_black_hole_is_noticed_by_the_heartbeat_and_costs_no_result(
    node: PrivateNode, prefix: str, plugins: Path, proxy: Proxy
) -> None:
    async with (
        ledger(node, prefix, DIGGER) as book,
        serving(proxy.url, prefix, plugins, heartbeat_s=HEARTBEAT_S) as transport,
    ):
        async with book.publishing(per_s=100):
            await serves_again(book)
            proxy.hold()
            await until_impeded(transport)
            proxy.release()
            await serves_again(book)
        await book.settled()
        assert transport.impediment() is None


async def test_what_a_worker_holds_whose_reset_the_broker_did_not_notice_comes_again(
    node: PrivateNode, prefix: str, plugins: Path, proxy: Proxy
) -> None:
    async with (
        ledger(node, prefix, DIGGER) as book,
        serving(proxy.url, prefix, plugins, heartbeat_s=HEARTBEAT_S),
    ):
        async with book.publishing(per_s=100):
            await serves_again(book)
            proxy.hold(Way.TO_CLIENT)  # so that there are deliveries which the worker never sees
            await proxy.held(Way.TO_CLIENT)
            proxy.cut(broker_notices=False)
            await serves_again(book)
        await book.settled()


async def test_connections_that_nobody_answers_are_given_up_and_others_tried(
    node: PrivateNode, prefix: str, plugins: Path, proxy: Proxy
) -> None:
    async with ledger(node, prefix, DIGGER) as book, serving(proxy.url, prefix, plugins, connect_s=CONNECT_S):
        async with book.publishing(per_s=50):
            await serves_again(book)
            proxy.cut()
            proxy.hold()
            await proxy.held(Way.TO_BROKER)  # the worker has begun to connect again
            proxy.abandon()
            await book.until_ended(len(book.confirmed), timeout_s=CONNECT_LIMIT_S)
        await book.settled()


async def test_calls_into_a_black_hole_end_in_time_and_later_ones_are_answered(
    node: PrivateNode, prefix: str, plugins: Path, proxy: Proxy
) -> None:
    async with serving(node.url, prefix, plugins), Client(proxy.url, prefix=prefix, timeout_s=CALL_LIMIT_S) as client:
        assert (await client.call(DIGGER, "work")).ok
        proxy.hold()
        began = time.monotonic()
        ends = await outcomes([asyncio.create_task(client.call(DIGGER, "work")) for _ in range(20)])
        assert [type(end) for end in ends] == [CallTimeout] * 20
        assert time.monotonic() - began < 2 * CALL_LIMIT_S
        proxy.release()
        assert (await client.call(DIGGER, "work", timeout_s=RETURN_LIMIT_S)).ok


async def test_a_client_closes_in_time_in_a_black_hole(proxy: Proxy, prefix: str) -> None:
    async with Client(proxy.url, prefix=prefix):
        proxy.hold()
        began = time.monotonic()
    assert time.monotonic() - began < CLOSE_LIMIT_S


async def test_a_worker_stops_in_time_in_a_black_hole(
    node: PrivateNode, prefix: str, plugins: Path, proxy: Proxy
) -> None:
    async with ledger(node, prefix, DIGGER) as book:
        async with serving(proxy.url, prefix, plugins):
            async with book.publishing(per_s=200):
                await serves_again(book)
                proxy.hold()
            began = time.monotonic()
        assert time.monotonic() - began < GRACE_S + CLOSE_LIMIT_S
        proxy.cut()  # so that the broker notices
        async with serving(node.url, prefix, plugins):
            await book.settled()


async def test_calls_in_flight_when_the_connection_dies_end_in_time(
    node: PrivateNode, prefix: str, plugins: Path, proxy: Proxy
) -> None:
    async with serving(node.url, prefix, plugins), Client(proxy.url, prefix=prefix, timeout_s=CALL_LIMIT_S) as client:
        proxy.hold(Way.TO_CLIENT)
        calls = [asyncio.create_task(client.call(DIGGER, "work")) for _ in range(50)]
        await proxy.held(Way.TO_CLIENT)  # confirms, and replies that will never arrive
        proxy.cut()
        ends = await outcomes(calls)
        assert [end for end in ends if not clear(end)] == []
        assert (await client.call(DIGGER, "work", timeout_s=RETURN_LIMIT_S)).ok


async def test_a_slow_line_delays_confirms_and_does_not_put_publishes_in_a_row(proxy: Proxy, prefix: str) -> None:
    transport = await AmqpTransport.connect(proxy.url)
    try:
        await transport.declare(Topology(queues=(Queue(prefix),)))
        proxy.delay_s = 0.1
        began = time.monotonic()
        await asyncio.gather(*(transport.publish(Message(b"", "", prefix), mandatory=True) for _ in range(200)))
        assert time.monotonic() - began < 200 * proxy.delay_s / 4
    finally:
        await transport.close()
