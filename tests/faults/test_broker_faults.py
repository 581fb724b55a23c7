"""A broker that restarts, stays away, hangs up, or has things deleted on it, while workers work: nothing is lost."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Final

import pytest

from tests.broker import PrivateNode
from tests.faults.broker_log import BrokerLog
from tests.faults.by_hand import (
    connections,
    on_channel,
    publish_requests,
    until_empty,
    until_it_stands,
    until_queues_hold,
)
from tests.faults.digger import DIGGER
from tests.faults.ledger import ledger
from tests.faults.proxy import Proxy, Way
from tests.faults.queue_contents import Contents
from tests.faults.serving import RETURN_LIMIT_S, serves_again, serving
from tests.guests import wat, write_plugin
from tests.worker_process import WorkerProcess, worker_process
from warren.bus import CallTimeout, Client, Names, OutcomeKind, Result

pytestmark = [pytest.mark.broker, pytest.mark.usefixtures("amqp_path"), pytest.mark.timeout(180)]

#: Where the way in which messages are framed has no part in what is tried, one is enough.
on_one_path = pytest.mark.parametrize("amqp_path", ["fast"], indirect=True)

#: How long the broker stays away.
AWAY_S: Final = 30.0

#: What the broker says of an ack for what is acked already.
UNKNOWN_TAG: Final = "unknown delivery tag"

#: An ack as a client sends it: a method frame on any channel, with any tag.
ACK_FRAME: Final = re.compile(rb"\x01..\x00\x00\x00\x0d\x00\x3c\x00\x50.{9}\xce", re.DOTALL)

GRACE_S: Final = 3.0

#: For a process to end after its grace period: to hang up, and to leave the interpreter.
FAREWELL_S: Final = 10.0


@pytest.fixture
async def log(node: PrivateNode) -> BrokerLog:
    return await BrokerLog.of(node)


@pytest.fixture
def names(prefix: str) -> Names:
    return Names(prefix)


async def test_a_restart_under_load_costs_no_result_and_nothing_is_acked_twice(
    node: PrivateNode, prefix: str, plugins: Path, log: BrokerLog
) -> None:
    async with ledger(node, prefix, DIGGER) as book, worker_process(plugins, node.url, prefix):
        async with book.publishing(per_s=100):
            await serves_again(book)
            await node.restart()
            await serves_again(book)
        await book.settled()
    assert log.count(UNKNOWN_TAG) == 0


@on_one_path
async def test_a_broker_that_stays_away_under_load_costs_no_result_and_no_call_its_end(
    node: PrivateNode, prefix: str, plugins: Path, log: BrokerLog
) -> None:
    async with (
        ledger(node, prefix, DIGGER) as book,
        worker_process(plugins, node.url, prefix) as worker,
        Client(node.url, prefix=prefix, timeout_s=AWAY_S / 2) as client,
    ):
        async with book.publishing(per_s=100):
            await serves_again(book)
            calls = [asyncio.create_task(client.call(DIGGER, "work")) for _ in range(100)]
            began = time.monotonic()
            await node.stop()
            try:
                waiting = asyncio.create_task(client.call(DIGGER, "work", timeout_s=AWAY_S + 4 * RETURN_LIMIT_S))
                ends = await asyncio.gather(*calls, return_exceptions=True)
                assert time.monotonic() - began < AWAY_S
                await asyncio.sleep(began + AWAY_S - time.monotonic())  # being away is the test
            finally:
                await node.start()
            await serves_again(book)
        assert {type(end) for end in ends} <= {CallTimeout, Result}
        assert (await waiting).ok
        await book.settled()
        assert await worker.terminate() == 0
    assert log.count(UNKNOWN_TAG) == 0
    assert "Traceback" not in worker.said


@pytest.mark.parametrize("which", ["publish", "consume"])
async def test_a_connection_that_the_broker_closes_under_load_costs_no_result(
    node: PrivateNode, prefix: str, plugins: Path, which: str
) -> None:
    async with ledger(node, prefix, DIGGER) as book, worker_process(plugins, node.url, prefix):
        async with book.publishing(per_s=200):
            await serves_again(book)
            closed = (await connections(node))[f"warren worker.{which}"]
            await node.ctl("close_connection", closed, "a test")
            await serves_again(book)
        await book.settled()


@on_one_path
async def test_all_connections_closed_under_load_cost_no_result(node: PrivateNode, prefix: str, plugins: Path) -> None:
    async with ledger(node, prefix, DIGGER) as book, worker_process(plugins, node.url, prefix):
        async with book.publishing(per_s=200):
            for _ in range(2):
                await serves_again(book)
                await node.ctl("close_all_connections", "a test")
            await serves_again(book)
        await book.settled()


async def test_an_ack_that_is_sent_twice_costs_the_channel_and_no_result(
    node: PrivateNode, prefix: str, plugins: Path, proxy: Proxy, log: BrokerLog
) -> None:
    acks: list[bytes] = []

    def repeat_the_third(way: Way, data: bytes) -> bytes:
        for frame in ACK_FRAME.findall(data) if way is Way.TO_BROKER else []:
            acks.append(frame)
            if len(acks) == 3:
                return data.replace(frame, 2 * frame)
        return data

    async with ledger(node, prefix, DIGGER) as book, serving(proxy.url, prefix, plugins):
        async with book.publishing(per_s=200):
            await serves_again(book)
            proxy.tamper = repeat_the_third
            await log.until(UNKNOWN_TAG)
            await serves_again(book)
        await book.settled()
    assert log.count(UNKNOWN_TAG) == 1


@on_one_path
async def test_a_mailbox_deleted_under_its_consumer_is_declared_and_served_again(
    node: PrivateNode, prefix: str, plugins: Path, names: Names
) -> None:
    async with ledger(node, prefix, DIGGER) as book, worker_process(plugins, node.url, prefix):
        await book.publish(20)
        await book.settled()  # what is in it goes with it
        await node.ctl("delete_queue", names.mailbox(DIGGER))
        meanwhile = await book.publish(20)
        await until_it_stands(node.url, lambda channel: channel.queue_declare(names.mailbox(DIGGER), passive=True))
        later = await book.publish(20)
        await book.settled()
        assert {book.results[each][-1].why for each in meanwhile} <= {OutcomeKind.OK, OutcomeKind.REJECTED}
        assert {book.results[each][-1].why for each in later} == {OutcomeKind.OK}


@on_one_path
async def test_without_a_listener_requests_are_done_and_with_it_results_come_again(
    node: PrivateNode, prefix: str, plugins: Path, names: Names
) -> None:
    listener = f"{prefix}.ledger"
    async with ledger(node, prefix, DIGGER) as book, worker_process(plugins, node.url, prefix):
        await book.publish(20)
        await book.settled()
        await on_channel(node.url, lambda channel: channel.queue_unbind(listener, names.results, "#"))
        unheard = set(await book.publish(20))
        await until_empty(node, prefix)
        await on_channel(node.url, lambda channel: channel.queue_bind(listener, names.results, "#"))
        heard = set(await book.publish(20))
        await book.until_ended(40)
        assert book.missing == unheard
        assert heard <= book.results.keys()
        assert not book.dead


@on_one_path
async def test_a_results_exchange_that_is_deleted_is_declared_again_and_costs_no_request(
    node: PrivateNode, prefix: str, plugins: Path, names: Names
) -> None:
    async with ledger(node, prefix, DIGGER) as book, worker_process(plugins, node.url, prefix) as worker:
        await book.publish(20)
        await book.settled()
        await on_channel(node.url, lambda channel: channel.exchange_delete(names.results))
        await book.publish(20)  # its listeners went with it: their results may find nobody, but they are done
        await until_it_stands(node.url, lambda channel: channel.queue_bind(f"{prefix}.ledger", names.results, "#"))
        await until_empty(node, prefix)
        later = set(await book.publish(20))
        async with asyncio.timeout(RETURN_LIMIT_S):
            while not later <= book.results.keys():  # noqa: ASYNC110 - whether others were heard is nobody's concern
                await asyncio.sleep(0.02)
        assert not book.dead
        assert await worker.terminate() == 0
    assert "Traceback" not in worker.said


@on_one_path
@pytest.mark.parametrize("gone", ["queue", "exchange"])
async def test_dead_letters_whose_target_is_gone_are_kept_and_the_target_declared_again(
    node: PrivateNode, prefix: str, tmp_path: Path, names: Names, gone: str
) -> None:
    write_plugin(tmp_path, "broken", wat("unreachable"))
    async with worker_process(tmp_path, node.url, prefix) as worker:
        await on_channel(
            node.url,
            lambda channel: (
                channel.queue_delete(names.dead) if gone == "queue" else channel.exchange_delete(names.dead)
            ),
        )
        await on_channel(node.url, lambda channel: publish_requests(channel, names.requests, "broken.work", 20))
        await until_queues_hold(
            node,
            prefix,
            lambda queues: (
                queues[names.mailbox("broken")] == Contents(0, 0)
                and names.dead in queues
                and queues[names.dead].ready >= 20
            ),
        )
        assert await worker.terminate() == 0
    assert "Traceback" not in worker.said


async def test_a_worker_told_to_stop_as_the_broker_goes_away_ends_in_time_and_loses_nothing(
    node: PrivateNode, prefix: str, plugins: Path
) -> None:
    async with ledger(node, prefix, DIGGER) as book:
        async with worker_process(plugins, node.url, prefix, "--grace-s", str(GRACE_S)) as worker:
            async with book.publishing(per_s=200):
                await serves_again(book)
                try:
                    _, took_s = await asyncio.gather(node.stop(), ending_of(worker))
                finally:
                    await node.start()
            assert took_s < GRACE_S + FAREWELL_S, worker.said
            assert worker.process.returncode == 0, worker.said
            assert "Traceback" not in worker.said
        async with worker_process(plugins, node.url, prefix):
            await book.settled()


async def ending_of(worker: WorkerProcess) -> float:
    """Tell it to stop; the seconds that it takes."""
    began = time.monotonic()
    await worker.terminate()
    return time.monotonic() - began
