"""What the AMQP transport promises when connections die, brokers restart, queues vanish and memory runs out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from typing import TypeVar

import pytest

from tests.broker import Broker, free_ports
from tests.faults.proxy import TASK_NAME, Proxy, Way
from warren.bus.amqp import AmqpTransport
from warren.bus.errors import BrokerUnreachable, DeliveryLost, PublishRefused, PublishTimeout, Unroutable
from warren.bus.messages import DIRECT_REPLY_TO, Message
from warren.bus.ports import Delivery
from warren.bus.topology import Binding, Exchange, Queue, Topology

pytestmark = pytest.mark.broker

#: For anything that is to happen at all.
LIMIT_S = 15.0

T = TypeVar("T")


class Inbox:
    """A consumer's deliveries, waited for with a limit."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[Delivery] = asyncio.Queue()
        self.put = self._arrived.put_nowait

    async def next(self) -> Delivery:
        return await within(self._arrived.get())

    async def next_settled(self) -> Message:
        """The next message; acknowledged, again and again while its delivery is lost."""
        while True:
            delivery = await self.next()
            with suppress(DeliveryLost):
                delivery.ack()
                return delivery.message


async def within(awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(LIMIT_S):
        return await awaitable


@pytest.fixture
async def transport(proxy: Proxy, amqp_path: str) -> AsyncIterator[AmqpTransport]:
    transport = await AmqpTransport.connect(proxy.url)
    yield transport
    await within(transport.close())
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in others if task.get_name() != TASK_NAME], "closing left tasks behind"


@pytest.fixture
async def queue(transport: AmqpTransport, prefix: str) -> str:
    """A mailbox's like: a quorum queue, bound to an exchange of the same name."""
    await transport.declare(Topology((Exchange(prefix),), (Queue(prefix),), (Binding(prefix, prefix, "#"),)))
    return prefix


async def test_a_publish_in_flight_when_the_connection_dies_is_confirmed_later(
    transport: AmqpTransport, proxy: Proxy, queue: str
) -> None:
    inbox = Inbox()
    await transport.consume(queue, inbox.put, prefetch=10)
    proxy.hold(Way.TO_CLIENT)
    async with asyncio.TaskGroup() as publishing:
        publishing.create_task(transport.publish(Message(b"kept", queue, "key", message_id="one"), mandatory=True))
        await within(proxy.held(Way.TO_CLIENT))
        proxy.cut()
    first, second = await inbox.next_settled(), await inbox.next_settled()
    assert (first.body, first.message_id) == (second.body, second.message_id) == (b"kept", "one")


async def test_many_publishes_in_flight_survive_cut_after_cut(
    transport: AmqpTransport, proxy: Proxy, queue: str
) -> None:
    inbox = Inbox()
    await transport.consume(queue, inbox.put, prefetch=10)
    wanted = {f"message {number}" for number in range(200)}
    arrived: set[str | None] = set()
    async with asyncio.TaskGroup() as publishing:
        for each in wanted:
            publishing.create_task(transport.publish(Message(b"", "", queue, message_id=each)))
        for _ in range(3):
            arrived.add((await inbox.next_settled()).message_id)
            proxy.cut()
    while arrived != wanted:
        arrived.add((await inbox.next_settled()).message_id)


async def test_a_consumer_goes_on_after_the_connection_died_and_old_deliveries_are_lost(
    transport: AmqpTransport, proxy: Proxy, queue: str
) -> None:
    inbox = Inbox()
    await transport.consume(queue, inbox.put, prefetch=10)
    await transport.publish(Message(b"interrupted", "", queue))
    interrupted = await inbox.next()
    assert not interrupted.redelivered
    proxy.cut()
    again = await inbox.next()
    assert (again.message.body, again.redelivered) == (b"interrupted", True)
    for settle in (interrupted.ack, interrupted.reject, interrupted.requeue):
        with pytest.raises(DeliveryLost):
            settle()
    again.ack()
    with pytest.raises(DeliveryLost):
        again.ack()
    await transport.publish(Message(b"next", "", queue))
    assert (await inbox.next_settled()).body == b"next"


async def test_a_consumer_goes_on_after_the_broker_closed_all_connections(
    broker: Broker, transport: AmqpTransport, queue: str
) -> None:
    inbox = Inbox()
    await transport.consume(queue, inbox.put, prefetch=1)
    await transport.publish(Message(b"interrupted", "", queue))
    interrupted = await inbox.next()
    await broker.ctl("close_all_connections", "a test")
    assert (await inbox.next_settled()).body == b"interrupted"
    with pytest.raises(DeliveryLost):
        interrupted.ack()


async def test_everything_works_again_after_the_broker_restarted(
    broker: Broker, transport: AmqpTransport, queue: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    inbox, replies, heard = Inbox(), Inbox(), Inbox()
    listener = f"{prefix}.listener"
    await transport.declare(
        Topology(queues=(Queue(listener, transient=True),), bindings=(Binding(listener, prefix, "#"),))
    )
    await transport.consume(queue, inbox.put, prefetch=10)
    await transport.consume(listener, heard.put, prefetch=10)
    await transport.consume(DIRECT_REPLY_TO, replies.put, prefetch=1)
    await transport.publish(Message(b"interrupted", "", queue))
    await inbox.next()
    await broker.stop()
    async with asyncio.TaskGroup() as publishing:
        publishing.create_task(transport.publish(Message(b"meanwhile", "", queue, reply_to=DIRECT_REPLY_TO)))
        await broker.start()
    arrived = {message.body: message for message in [await inbox.next_settled(), await inbox.next_settled()]}
    assert arrived.keys() == {b"interrupted", b"meanwhile"}
    await transport.publish(Message(b"answer", "", arrived[b"meanwhile"].reply_to or ""), mandatory=True)
    assert (await replies.next()).message.body == b"answer"
    await until_routable(transport, Message(b"heard", "", listener))
    assert (await heard.next_settled()).body == b"heard"
    lost, back = [record.getMessage() for record in caplog.records if record.name == "warren.bus.amqp_link"]
    assert lost.startswith("lost the broker at amqp://guest@127.0.0.1")
    assert back.endswith("is back")


async def test_a_queue_deleted_under_its_consumer_is_declared_and_consumed_again(
    broker: Broker, transport: AmqpTransport, queue: str
) -> None:
    inbox = Inbox()
    await transport.consume(queue, inbox.put, prefetch=10)
    await transport.publish(Message(b"gone", "", queue))
    gone = await inbox.next()
    await broker.ctl("delete_queue", queue)
    await until_routable(transport, Message(b"new", queue, "any.key"))
    assert (await inbox.next_settled()).body == b"new"
    with pytest.raises(DeliveryLost):
        gone.ack()


async def test_what_was_unbound_or_forgotten_does_not_come_back_after_an_outage(
    broker: Broker, transport: AmqpTransport, queue: str, prefix: str
) -> None:
    inbox, forgotten = Inbox(), f"{prefix}.forgotten"
    await transport.consume(queue, inbox.put, prefetch=10)
    await transport.declare(Topology((), (Queue(forgotten),), (Binding(forgotten, prefix, "kept"),)))
    await transport.declare(Topology((), (), (Binding(queue, prefix, "kept"),)))
    await transport.unbind(Binding(queue, prefix, "#"))
    transport.forget(forgotten)
    await broker.ctl("delete_queue", forgotten)
    await broker.ctl("delete_queue", queue)
    await broker.ctl("close_all_connections", "a test")
    await until_routable(transport, Message(b"kept", prefix, "kept"))
    assert (await inbox.next_settled()).body == b"kept"
    with pytest.raises(Unroutable):
        await transport.publish(Message(b"unbound", prefix, "any.key"), mandatory=True)
    with pytest.raises(Unroutable):
        await transport.publish(Message(b"forgotten", "", forgotten), mandatory=True)


async def until_routable(transport: AmqpTransport, message: Message) -> None:
    """Publish it once some queue takes it."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                return await transport.publish(message, mandatory=True)
            except Unroutable:
                await asyncio.sleep(0.02)


async def test_replies_arrive_again_after_the_connection_died(
    transport: AmqpTransport, proxy: Proxy, queue: str
) -> None:
    inbox, replies = Inbox(), Inbox()
    await transport.consume(queue, inbox.put, prefetch=10)
    await transport.consume(DIRECT_REPLY_TO, replies.put, prefetch=1)
    for round_trip in (b"before", b"after"):
        await transport.publish(Message(round_trip, "", queue, reply_to=DIRECT_REPLY_TO))
        while (request := await inbox.next_settled()).body != round_trip:
            pass  # the one before, whose acknowledgement was cut off
        await transport.publish(Message(round_trip, "", request.reply_to or "", message_id="twin"), mandatory=True)
        reply = await replies.next()
        assert reply.message.body == round_trip
        with pytest.raises(DeliveryLost):
            reply.ack()
        proxy.cut()


async def test_a_publish_that_the_broker_answers_by_closing_the_channel_does_not_harm_its_neighbours(
    transport: AmqpTransport, queue: str
) -> None:
    good = [transport.publish(Message(b"good", "", queue), mandatory=True) for _ in range(20)]
    bad = transport.publish(Message(b"bad", f"{queue}.missing", "key"))
    *goods, refused = await within(asyncio.gather(*good, bad, return_exceptions=True))
    assert goods == [None] * 20
    assert isinstance(refused, PublishRefused)


async def test_twins_published_at_once_are_told_apart(transport: AmqpTransport, queue: str) -> None:
    publishes = [
        transport.publish(Message(b"", "", key, message_id="twin"), mandatory=True)
        for key in (queue, f"{queue}.missing") * 10
    ]
    outcomes = await within(asyncio.gather(*publishes, return_exceptions=True))
    assert [type(outcome) for outcome in outcomes] == [type(None), Unroutable] * 10


async def test_publishers_wait_out_a_memory_alarm_while_consumers_go_on(
    broker: Broker, transport: AmqpTransport, queue: str
) -> None:
    inbox = Inbox()
    await transport.publish(Message(b"before", "", queue))
    await broker.ctl("set_vm_memory_high_watermark", "0.0000001")
    try:
        with pytest.raises(PublishTimeout, match=r"no confirmation within 0.5 s"):
            await transport.publish(Message(b"during", "", queue), timeout_s=0.5)
        await transport.consume(queue, inbox.put, prefetch=1)
        assert (await inbox.next_settled()).body == b"before"
        async with asyncio.TaskGroup() as publishing:
            publishing.create_task(transport.publish(Message(b"after", "", queue)))
            await broker.ctl("set_vm_memory_high_watermark", "0.4")
    finally:
        await broker.ctl("set_vm_memory_high_watermark", "0.4")
    assert [(await inbox.next_settled()).body, (await inbox.next_settled()).body] == [b"during", b"after"]


async def test_a_transport_closes_in_time_while_the_broker_reads_nothing(broker: Broker, queue: str) -> None:
    transport = await AmqpTransport.connect(broker.url)
    await broker.ctl("set_vm_memory_high_watermark", "0.0000001")
    try:
        await asyncio.gather(
            *(transport.publish(Message(bytes(4_000_000), "", queue), timeout_s=0.5) for _ in range(4)),
            return_exceptions=True,
        )
        await within(transport.close())
    finally:
        await broker.ctl("set_vm_memory_high_watermark", "0.4")


async def test_a_transport_closes_while_the_broker_is_away(broker: Broker) -> None:
    async with Proxy(broker.url).listening() as proxy:
        transport = await AmqpTransport.connect(proxy.url)
    await within(transport.close())
    await within(transport.close())


async def test_the_heartbeat_that_a_url_names_comes_before_the_default(broker: Broker) -> None:
    transport = await AmqpTransport.connect(f"{broker.url}?heartbeat=7")
    try:
        heartbeats = (await broker.ctl("list_connections", "--no-table-headers", "timeout")).split()
        assert heartbeats.count("7") == 2
    finally:
        await within(transport.close())


def faulty(url: str, fault: str) -> tuple[str, str]:
    """A URL with that fault, and what is to be said of it."""
    match fault:
        case "password":
            return url.replace("guest:guest", "guest:secret"), "it refused the user name or the password"
        case "virtual host":
            return f"{url}nowhere".replace("guest:guest", "guest:guest"), "it refused the virtual host"
        case "port":
            return f"amqp://guest:secret@127.0.0.1:{free_ports(1)[0]}/", "connection refused"
    raise AssertionError(fault)


@pytest.mark.parametrize("fault", ["password", "virtual host", "port"])
async def test_a_broker_that_cannot_be_used_is_named_with_the_reason_and_without_the_password(
    broker: Broker, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    url, reason = faulty(broker.url, fault)
    with pytest.raises(BrokerUnreachable, match=reason) as raised:
        await within(AmqpTransport.connect(url))
    assert "secret" not in str(raised.value) + caplog.text


async def test_a_broker_that_says_nothing_is_given_up_in_time() -> None:
    gone = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        gone.set()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BrokerUnreachable, match=r"no answer within 0.2 s"):
            await AmqpTransport.connect(f"amqp://guest:guest@127.0.0.1:{port}/", timeout_s=0.2)
        await within(gone.wait())
