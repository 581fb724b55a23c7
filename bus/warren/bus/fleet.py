"""Asking every worker of an installation at once, and knowing who did not answer.

    async with Fleet(transport, names) as fleet:
        heard = await fleet.ask(Ping(), timeout_s=2)

Nobody has a list of the workers. Each answer tells whom that worker knows, so that the answers together say who should
have answered: when all of them have, the waiting ends at once. One that everybody has forgotten is not missed.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from .control import Answer, Order, order_message, read_answer
from .errors import MalformedMessage, OrderNotAllowed, PublishRefused, TransportClosed, Unroutable
from .messages import DIRECT_REPLY_TO, new_message_id
from .ports import Consumer, Delivery, Transport
from .topology import Names, base_topology

_log = logging.getLogger(__name__)

#: How long it is quiet before those who have answered are believed to be all. A worker that has just started knows
#: nobody yet, and nobody knows it.
QUIET_S: Final = 0.25


@dataclass(slots=True)
class Heard:
    """What came back of one order. `expected` are all who are known to have got it."""

    answers: dict[str, Answer] = field(default_factory=dict)
    expected: set[str] = field(default_factory=set)

    @property
    def silent(self) -> list[str]:
        """Who did not answer."""
        return sorted(self.expected - self.answers.keys())


class _Question:
    """An order that answers may still come to."""

    def __init__(self, order: Order) -> None:
        self.heard = Heard(expected={order.worker} if order.worker else set())
        self.news = asyncio.Event()
        self._one = order.worker

    def add(self, answer: Answer) -> None:
        self.heard.answers[answer.worker] = answer
        if self._one is None:
            self.heard.expected.update((answer.worker, *answer.peers))
        self.news.set()

    async def complete(self) -> None:
        """Return when all have answered who are known of, and nobody else seems to come."""
        while not self.heard.answers or self.heard.silent:
            await self._more()
        while self._one is None:
            try:
                async with asyncio.timeout(QUIET_S):
                    await self._more()
            except TimeoutError:
                if not self.heard.silent:
                    return

    async def _more(self) -> None:
        self.news.clear()
        await self.news.wait()


class Fleet:
    """The workers of one installation, to be asked; `transport` stays its owner's. An async context manager."""

    def __init__(self, transport: Transport, names: Names) -> None:
        self._transport = transport
        self._names = names
        self._questions: dict[str, _Question] = {}
        self._replies: Consumer | None = None

    async def __aenter__(self) -> Self:
        """Raises `BusError`."""
        await self._transport.declare(base_topology(self._names))
        self._replies = await self._transport.consume(DIRECT_REPLY_TO, self._on_reply, prefetch=1)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._replies is not None:
            with suppress(TransportClosed):
                await self._replies.cancel()

    async def ask(self, order: Order, *, timeout_s: float) -> Heard:
        """Give an order, and gather answers until all who are known of have answered, or `timeout_s` are over.

        A worker that has not begun with it by then leaves it. Raises `OrderNotAllowed`, and any other `BusError`.
        """
        order_id = new_message_id()
        question = self._questions[order_id] = _Question(order)
        message = order_message(
            self._names, order, valid_s=timeout_s, reply_to=DIRECT_REPLY_TO, correlation_id=order_id
        )
        try:
            async with asyncio.timeout(timeout_s):
                await self._transport.publish(message, mandatory=True, timeout_s=timeout_s)
                await question.complete()
        except (TimeoutError, Unroutable):  # nobody is there, and so nobody is missed but whom the order names
            pass
        except PublishRefused as refused:  # a full queue of a worker's drops what is oldest, so it is not that
            raise OrderNotAllowed(refused.exchange, refused.routing_key) from refused
        finally:
            del self._questions[order_id]
        return question.heard

    def _on_reply(self, delivery: Delivery) -> None:
        question = self._questions.get(delivery.message.correlation_id or "")
        if question is None:  # it is late
            return
        try:
            question.add(read_answer(delivery.message))
        except MalformedMessage as malformed:
            _log.warning("passing over an answer: %s", malformed)
