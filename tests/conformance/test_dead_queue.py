"""Looking through the queue of dead letters, on every transport: what is not settled goes back, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from tests.conformance.inbox import PATIENCE_S, Connect, Inbox, Post
from warren.bus import (
    BusError,
    DeadQueue,
    Header,
    HeldLetter,
    MalformedMessage,
    Message,
    Names,
    OutcomeKind,
    PublishRefused,
    Queue,
    QueueNotFound,
    Topology,
    Transport,
    Unroutable,
    base_topology,
    dead_letter_message,
    dead_queue,
    mailbox_topology,
    settle_each,
)


@pytest.fixture
async def names(post: Post) -> Names:
    names = Names(post.prefix)
    await post.transport.declare(base_topology(names) + mailbox_topology(names, "digest"))
    return names


async def bury(
    transport: Transport, names: Names, *ids: str, key: str = "digest.act", exchange: str | None = None
) -> None:
    """Dead letters of messages that had that key."""
    letters = (
        dead_letter_message(
            names,
            Message(
                one.encode(),
                names.requests if exchange is None else exchange,
                key,
                message_id=one,
                headers={"mine": one},
            ),
            plugin="digest",
            outcome=OutcomeKind.TRAP,
            error="unreachable",
            attempt=1,
            worker="w",
        )
        for one in ids
    )
    await asyncio.gather(*(transport.publish(letter, mandatory=True) for letter in letters))


def numbers(count: int) -> list[str]:
    return [f"{number:05}" for number in range(count)]


async def ids_left(transport: Transport, names: Names, count: int) -> list[str]:
    """The `count` letters that are in the queue, in its order; they stay there."""
    await until_depth(transport, names, count)
    async with DeadQueue(transport, names) as queue:
        return [held.letter.id async for held in queue.letters()]


async def until_depth(transport: Transport, names: Names, depth: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await transport.depth(names.dead) == depth:
                return
            await asyncio.sleep(0.02)


async def test_what_was_looked_at_is_back_in_its_place(post: Post, names: Names) -> None:
    await bury(post.transport, names, "a", "b", "c")
    for _ in range(25):  # RabbitMQ 4's own limit of deliveries is 20
        assert await ids_left(post.transport, names, 3) == ["a", "b", "c"]


async def test_a_replayed_message_is_where_it_was_published_first_and_its_letter_is_gone(
    post: Post, names: Names
) -> None:
    await bury(post.transport, names, "a", "b")
    async with DeadQueue(post.transport, names) as queue:
        assert queue.depth == 2
        async for held in queue.letters():
            if held.letter.id == "b":
                await queue.replay(held)
    again = (await (await Inbox.of(post.transport, names.mailbox("digest"))).next()).message
    assert (again.exchange, again.routing_key, again.message_id) == (names.requests, "digest.act", "b")
    assert (again.body, dict(again.headers)) == (b"b", {"mine": "b"})
    assert await ids_left(post.transport, names, 1) == ["a"]


async def test_a_discarded_letter_is_gone(post: Post, names: Names) -> None:
    await bury(post.transport, names, "a", "b")
    async with DeadQueue(post.transport, names) as queue:
        await queue.discard(await anext(queue.letters()))
    assert await ids_left(post.transport, names, 1) == ["b"]


async def test_a_thousand_are_replayed_and_those_that_nobody_takes_stay(post: Post, names: Names) -> None:
    await bury(post.transport, names, *numbers(1_000))
    await bury(post.transport, names, "nowhere", key="nobody.listens", exchange=names.events)
    await bury(post.transport, names, "no exchange", exchange="gone")
    refusals: dict[str, type[Exception]] = {}

    async def replay(held: HeldLetter) -> None:
        try:
            await queue.replay(held)
        except (Unroutable, PublishRefused) as refusal:
            refusals[held.letter.id] = type(refusal)

    async with DeadQueue(post.transport, names) as queue:
        await settle_each(queue.letters(), replay)
    assert queue.unseen == 0
    assert refusals == {"nowhere": Unroutable, "no exchange": PublishRefused}
    assert await ids_left(post.transport, names, 2) == ["nowhere", "no exchange"]
    inbox = await Inbox.of(post.transport, names.mailbox("digest"), prefetch=5_000)
    assert {body.decode() for body in await inbox.bodies(1_000)} == set(numbers(1_000))


async def test_what_cannot_be_told_where_it_is_from_stays(post: Post, names: Names) -> None:
    await post.put(names.dead, b"somebody else's")
    async with DeadQueue(post.transport, names) as queue:
        with pytest.raises(MalformedMessage):
            await queue.replay(await anext(queue.letters()))
    await until_depth(post.transport, names, 1)


async def test_what_the_broker_gave_up_goes_where_it_was_sent_and_not_where_it_says(post: Post, names: Names) -> None:
    target = post.name("theirs")
    await post.transport.declare(Topology(queues=(Queue(target),)))
    mailbox = names.mailbox("digest")
    death = {"queue": mailbox, "reason": "expired", "exchange": "", "routing-keys": [target], "count": 0}
    forged = {Header.ORIGINAL_EXCHANGE: "", Header.ORIGINAL_KEY: target, Header.WORKER: "w", "x-death": [death]}
    for headers in (forged, {**forged, "x-death": "none"}, {**forged, "x-death": []}):
        await post.transport.publish(
            Message(b"body", names.requests, "digest.act", message_id="one", expiration_ms=1, headers=headers)
        )
    await until_depth(post.transport, names, 3)
    stay = 0
    async with DeadQueue(post.transport, names) as queue:
        async for held in queue.letters():
            try:
                await queue.replay(held)
            except MalformedMessage:  # RabbitMQ 3 keeps what came as `x-death`; then nobody can tell
                stay += 1
    assert stay <= 1
    assert await post.transport.depth(target) == 0
    inbox = await Inbox.of(post.transport, mailbox)
    assert await inbox.bodies(3 - stay) == [b"body"] * (3 - stay)


async def test_what_would_be_a_direct_reply_stays_since_nobody_would_tell_that_it_did_not_arrive(
    post: Post, names: Names
) -> None:
    await bury(post.transport, names, "gone", key="amq.rabbitmq.reply-to.gone", exchange="")
    async with DeadQueue(post.transport, names) as queue:
        with pytest.raises(Unroutable):
            await queue.replay(await anext(queue.letters()))
    await until_depth(post.transport, names, 1)


async def test_more_than_a_window_of_letters_that_stay_do_not_hide_what_is_behind_them(
    post: Post, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_queue, "WINDOW", 10)
    await bury(post.transport, names, *numbers(95))
    async with DeadQueue(post.transport, names) as queue:
        async for held in queue.letters():
            if held.letter.id == "00094":
                await queue.discard(held)
    assert (queue.depth, queue.unseen) == (95, 0)
    assert sorted(await ids_left(post.transport, names, 94)) == numbers(94)


async def test_no_more_are_held_than_may_be(post: Post, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_queue, "WINDOW", 10)
    monkeypatch.setattr(dead_queue, "MAX_HELD", 25)
    await bury(post.transport, names, *numbers(40))
    async with DeadQueue(post.transport, names, quiet_s=0.3) as queue:
        assert len([held async for held in queue.letters()]) == 25
        assert queue.is_full
        assert queue.unseen == 15
        await until_depth(post.transport, names, 15)
    await until_depth(post.transport, names, 40)


async def test_letters_that_somebody_else_holds_are_not_waited_for(
    post: Post, names: Names, transports: Connect
) -> None:
    await bury(post.transport, names, "a", "b")
    async with DeadQueue(post.transport, names, quiet_s=0.3) as queue:
        other = await Inbox.of(await transports(), names.dead)
        await other.next()
        await other.next()
        assert [held async for held in queue.letters()] == []
        assert (queue.depth, queue.unseen) == (2, 2)


async def test_what_dies_meanwhile_is_left_for_the_next_time(post: Post, names: Names) -> None:
    await bury(post.transport, names, "a")
    async with DeadQueue(post.transport, names) as queue:
        letters = queue.letters()
        await queue.discard(await anext(letters))
        await bury(post.transport, names, "b")
        assert [held async for held in letters] == []
    assert await ids_left(post.transport, names, 1) == ["b"]


async def test_a_queue_that_is_not_there_is_told(post: Post) -> None:
    with pytest.raises(QueueNotFound):
        await DeadQueue(post.transport, Names(post.prefix)).__aenter__()


async def test_when_the_connection_goes_in_the_middle_nothing_is_lost(
    post: Post, names: Names, transports: Connect
) -> None:
    await bury(post.transport, names, *numbers(300))
    doomed = await transports()
    replayed: set[str] = set()

    async def replay(held: HeldLetter) -> None:
        if len(replayed) == 100:
            await doomed.close()
        await queue.replay(held)
        replayed.add(held.letter.id)

    with suppress(BusError):
        async with DeadQueue(doomed, names) as queue:
            await settle_each(queue.letters(), replay, in_flight=10)
    await doomed.close()  # to its end: `settle_each` has cancelled whoever began it
    inbox = await Inbox.of(post.transport, names.mailbox("digest"), prefetch=5_000)
    async with DeadQueue(post.transport, names, quiet_s=1.0) as queue:
        left = {held.letter.id async for held in queue.letters()}
        again = {body.decode() for body in await inbox.bodies(inbox.handed_over)}
    assert len(replayed) >= 100
    assert replayed <= again
    assert left | again == set(numbers(300))


async def test_the_first_error_ends_it_and_is_raised_as_it_is() -> None:
    async def nobody() -> AsyncIterator[HeldLetter]:
        for _ in range(3):
            yield HeldLetter.__new__(HeldLetter)

    async def fail(_: HeldLetter) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await settle_each(nobody(), fail)
