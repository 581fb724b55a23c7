"""Two tenants on one RabbitMQ, with the permissions that `bus/TENANTS.md` prints: each has all, and nothing of the
other's. What attacks is a plain client with a tenant's own password."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker, ProbableAccessDeniedError

from tests.broker import Broker
from tests.faults.by_hand import on_channel
from tests.fleet import LIMIT_S, Member, member, until
from tests.guests import ask, wat, write_plugin
from warren.bus import Client, Fleet, Names, OutcomeKind, Ping, connect
from warren.workers.metrics import REFUSALS

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

PAGE: Final = (Path(__file__).parents[2] / "bus" / "TENANTS.md").read_text()
PRINTED: Final = re.findall(r"rabbitmqctl set_permissions (-p mole )?mole_(\w+) +'(\S+)' '(\S+)' '(\S+)'", PAGE)

ACCESS_REFUSED: Final = 403


@dataclass(frozen=True)
class Tenant:
    """A tenant's names, and the URLs that its worker and its application have."""

    names: Names
    worker: str
    application: str


async def tenant(broker: Broker, prefix: str, *, own_vhost: bool) -> Tenant:
    """Made as the page says, `prefix` being in the place of what stands there."""
    unique = token_hex(3)
    host = broker.url.partition("@")[2].partition("/")[0]
    vhost = f"vhost-{unique}" if own_vhost else ""
    if own_vhost:
        await broker.ctl("add_vhost", vhost)
    urls: dict[str, str] = {}
    for role in ("worker", "application"):
        [printed] = [one for has_vhost, name, *one in PRINTED if name == role and bool(has_vhost) is own_vhost]
        user = f"{role}-{unique}"
        await broker.ctl("add_user", user, "secret")
        named = [one.replace("warren" if own_vhost else "mole", prefix) for one in printed]
        await broker.ctl("set_permissions", *(("-p", vhost) if own_vhost else ()), user, *named)
        urls[role] = f"amqp://{user}:secret@{host}/{vhost}"
    return Tenant(Names(prefix), urls["worker"], urls["application"])


def write_plugins(folder: Path) -> None:
    write_plugin(folder, "plain")
    retry = '[retry]\non = ["trap"]\nmax_attempts = 2\ninitial_delay_ms = 10\njitter = 0.0\n'
    write_plugin(folder, "broken", wat("unreachable"), retry)
    message, segment = ask("send_message", '{"to":"plain","topic":"told"}')
    told = '[bus]\npublish = ["told"]\n'
    secret, text = ask("send_message", '{"topic":"secret"}')
    write_plugin(folder, "leaker", wat(f"(drop {secret}) (call $answer)", more=text))
    write_plugin(folder, "teller", wat(f"(drop {message}) (call $answer)", more=segment), told)


@asynccontextmanager
async def serving(folder: Path, one: Tenant) -> AsyncIterator[Member]:
    write_plugins(folder)
    async with member(folder, one.worker, one.names.prefix, audit=frozenset({"exchange"})) as worker:
        yield worker


@pytest.mark.parametrize("own_vhost", [False, True], ids=["by prefix", "by vhost"])
async def test_a_tenant_has_all_there_is(broker: Broker, prefix: str, tmp_path: Path, *, own_vhost: bool) -> None:
    """Everything that a worker, an application and an operator do, with the rights they have."""
    one = await tenant(broker, prefix, own_vhost=own_vhost)
    async with (
        serving(tmp_path, one) as worker,
        Client(one.application, prefix=prefix, timeout_s=LIMIT_S) as client,
        client.results("plain.#") as results,
        client.events("news.#") as events,
        client.audit("leaker.publish.warning") as audit,
    ):
        assert (await client.call("plain", "do")).ok
        await client.publish("news.today", 1)
        assert (await anext(events)).payload == 1
        await client.send("plain", "hello", 1)
        assert (await anext(results)).action == "on_message"
        assert (await client.call("teller", "do")).ok  # its message goes into the mailbox of `plain`
        assert (await anext(results)).action == "on_message"
        broken = await client.call("broken", "do")
        assert (broken.outcome, broken.attempt) == (OutcomeKind.TRAP, 2)  # by way of a retry queue
        assert (await client.call("nobody", "do")).outcome is OutcomeKind.REJECTED  # by way of `unrouted`
        assert (await client.call("leaker", "do")).outcome is OutcomeKind.DENIED
        assert (await anext(audit)).asked == "secret"
        await on_channel(one.application, lambda channel: ask_by_queue(channel, one.names))
        await until(lambda: worker.roster.complete)
        operator = await connect(one.worker)
        async with Fleet(operator, one.names) as fleet:
            assert list((await fleet.ask(Ping(), timeout_s=LIMIT_S)).answers) == [worker.name]
        assert await operator.depth(one.names.dead) == 3
        await operator.close()


def ask_by_queue(channel: Any, names: Names) -> None:
    """A call whose result comes by a queue of the caller's own."""
    queue = f"{names.prefix}.my-replies"
    channel.queue_declare(queue, exclusive=True)
    properties = pika.BasicProperties(reply_to=queue, message_id="mine")
    channel.basic_publish(names.requests, "plain.do", b'{"action":"do","data":null}', properties)
    for method, told, _body in channel.consume(queue, inactivity_timeout=LIMIT_S):
        assert method is not None
        assert told.correlation_id == "mine"
        return


def attacks(mine: Names, others: Names) -> dict[str, Callable[[Any], object]]:
    """What one tenant may try on another's exchanges and queues."""
    mailbox = others.mailbox("plain")
    own = f"{mine.prefix}.own"
    into = {"x-dead-letter-exchange": others.requests}
    return {
        "publish a request": lambda channel: channel.basic_publish(others.requests, "plain.do", b"{}"),
        "publish an event": lambda channel: channel.basic_publish(others.events, "a", b"{}"),
        "send a message": lambda channel: channel.basic_publish(others.direct, mailbox, b"{}"),
        "give an order": lambda channel: channel.basic_publish(others.control, "ping", b"{}"),
        "forge a result": lambda channel: channel.basic_publish(others.results, "plain.do.ok", b"{}"),
        "forge an audit event": lambda channel: channel.basic_publish(others.audit, "a.b.debug", b"{}"),
        "forge a dead letter": lambda channel: channel.basic_publish(others.dead, "a.b", b"{}"),
        "take from a mailbox": lambda channel: channel.basic_get(mailbox),
        "consume a mailbox": lambda channel: channel.basic_consume(mailbox, lambda *_: None),
        "take dead letters": lambda channel: channel.basic_get(others.dead),
        "purge": lambda channel: channel.queue_purge(mailbox),
        "delete a queue": lambda channel: channel.queue_delete(mailbox),
        "delete an exchange": lambda channel: channel.exchange_delete(others.events),
        "declare a queue": lambda channel: channel.queue_declare(others.retry("plain", 5), durable=True),
        "declare an exchange": lambda channel: channel.exchange_declare(f"{others.prefix}.new"),
        "listen to events": lambda channel: bind(channel, own, others.events),
        "listen to results": lambda channel: bind(channel, own, others.results),
        "listen to the audit": lambda channel: bind(channel, own, others.audit),
        "listen to orders": lambda channel: bind(channel, own, others.control),
        "lead messages away": lambda channel: channel.queue_bind(mailbox, mine.requests, "#"),
        "unbind": lambda channel: channel.queue_unbind(mailbox, others.requests, "plain.*"),
        "let messages die into it": lambda channel: channel.queue_declare(own, exclusive=True, arguments=into),
        "let an exchange overflow into it": lambda channel: channel.exchange_declare(
            f"{mine.prefix}.leak", arguments={"alternate-exchange": others.requests}
        ),
    }


#: What only somebody may do who may write to the default exchange.
def by_the_default_exchange(mine: Names, others: Names) -> dict[str, Callable[[Any], object]]:
    mailbox = others.mailbox("plain")
    into = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": mailbox}
    return {
        "publish by the default exchange": lambda channel: channel.basic_publish("", mailbox, b"{}"),
        "die into it by the default exchange": lambda channel: channel.queue_declare(
            f"{mine.prefix}.other", exclusive=True, arguments=into
        ),
    }


def bind(channel: Any, queue: str, exchange: str) -> None:
    channel.queue_declare(queue, exclusive=True)
    channel.queue_bind(queue, exchange, "#")


async def is_refused(url: str, attack: Callable[[Any], object]) -> bool:
    try:
        await on_channel(url, attack)
    except ChannelClosedByBroker as closed:
        return bool(closed.reply_code == ACCESS_REFUSED)
    return False


async def test_by_prefix_a_tenant_can_do_nothing_to_another(broker: Broker, prefix: str, tmp_path: Path) -> None:
    mine = await tenant(broker, f"{prefix}-a", own_vhost=False)
    others = await tenant(broker, f"{prefix}-b", own_vhost=False)
    async with serving(tmp_path, others), Client(mine.application, prefix=mine.names.prefix, timeout_s=LIMIT_S):
        theirs, by_default = attacks(mine.names, others.names), by_the_default_exchange(mine.names, others.names)
        for role in (mine.application, mine.worker):
            unhurt = [name for name, attack in theirs.items() if not await is_refused(role, attack)]
            assert unhurt == []
        assert [name for name, attack in by_default.items() if not await is_refused(mine.application, attack)] == []
        # As the page says: whoever has a worker's password is trusted by all tenants of the vhost.
        assert [name for name, attack in by_default.items() if await is_refused(mine.worker, attack)] == []


async def test_by_vhost_a_tenant_cannot_even_connect_to_another(broker: Broker, prefix: str) -> None:
    mine = await tenant(broker, prefix, own_vhost=True)
    others = await tenant(broker, prefix, own_vhost=True)
    vhost = others.worker.rpartition("/")[2]
    for url in (mine.worker, mine.application):
        with pytest.raises((ConnectionClosedByBroker, ProbableAccessDeniedError)):
            await on_channel(f"{url.rpartition('/')[0]}/{vhost}", lambda channel: None)


async def test_an_application_cannot_have_its_worker_write_to_another_tenant(
    broker: Broker, prefix: str, tmp_path: Path
) -> None:
    mine = await tenant(broker, f"{prefix}-a", own_vhost=False)
    others = await tenant(broker, f"{prefix}-b", own_vhost=False)
    theirs = f"{others.names.prefix}.theirs"
    await on_channel(broker.url, lambda channel: channel.queue_declare(theirs, durable=True))
    request = b'{"action":"do","data":null}'

    def ask(channel: Any) -> None:
        for key in ("plain.do", "nobody.do"):
            properties = pika.BasicProperties(reply_to=theirs, message_id=key)
            channel.basic_publish(mine.names.requests, key, request, properties)

    async with (
        serving(tmp_path, mine) as worker,
        Client(mine.application, prefix=mine.names.prefix, timeout_s=LIMIT_S) as client,
        client.results() as results,
    ):
        await on_channel(mine.application, ask)
        async with asyncio.timeout(LIMIT_S):
            both = [await anext(results) for _ in range(2)]
        refused = {(result.plugin, result.outcome): result.error for result in both}
        assert set(refused) == {("plain", OutcomeKind.REJECTED), ("nobody", OutcomeKind.REJECTED)}
        error = refused["plain", OutcomeKind.REJECTED]
        assert error is not None
        assert f"'reply_to' names '{theirs}', which is neither a direct reply nor a queue of this" in error
        assert worker.count(REFUSALS.name, "plain", "reply_to") == 1
    observer = await connect(broker.url)
    assert await observer.depth(theirs) == 0
    await observer.close()


async def test_where_it_is_wanted_any_queue_may_be_named(broker: Broker, prefix: str, tmp_path: Path) -> None:
    queue = f"replies-{token_hex(3)}"
    write_plugins(tmp_path)

    def ask(channel: Any) -> None:
        channel.queue_declare(queue, exclusive=True)
        properties = pika.BasicProperties(reply_to=queue, message_id="1")
        channel.basic_publish(Names(prefix).requests, "plain.do", b'{"action":"do","data":null}', properties)
        for method, _, body in channel.consume(queue, inactivity_timeout=LIMIT_S):
            assert method is not None
            assert b'"success":true' in body
            return

    async with member(tmp_path, broker.url, prefix, foreign_replies=True):
        await on_channel(broker.url, ask)
