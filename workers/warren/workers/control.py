"""A worker's ear on the control exchange: it hears announcements, and answers orders.

Every worker hears everything, by a queue of its own that goes with its connection. Whatever comes there, the path of a
message must not feel it:

- One message is dealt with at a time, and then none for twenty times as long as that took. So control takes a twentieth
  of the event loop at most, however much comes and whatever is in it; what does not fit in is dropped by the broker.
  (Rejected: so many messages a second. An announcement takes 50 µs, a hostile order of 256 KiB a hundred times that.)
- Orders that take their time are tasks, and few at a time; those that come on top are answered that it is busy.
- What is wrong is answered where somebody waits for it, and logged once a minute for each kind.

What is changed by order is logged. A process that was frozen may find orders in its buffers when it goes on, whose
sender has long given up: stale ones are not obeyed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from warren.bus import (
    ANNOUNCEMENT_TYPE,
    ORDER_TYPE,
    Announcement,
    Answer,
    BusError,
    Consumer,
    Delivery,
    DeliveryLost,
    MalformedMessage,
    Message,
    Names,
    Order,
    Problem,
    Transport,
    WorkerState,
    answer_message,
    control_topology,
    is_stale,
    new_message_id,
    problem,
    read_announcement,
    read_order,
)
from warren.manifests import ManifestError
from warren.plugins import LifecycleEvent, PluginError, PluginManager, PluginNotFound, PluginRefused

from .announcing import Announcer
from .orders import HANDLERS, Answered, Here, now
from .roster import PERIOD_S, Roster
from .seldom import Seldom
from .worker import Worker

_log = logging.getLogger(__name__)

#: Messages that wait here; the others wait with the broker. Each may be as large as the broker takes it.
PREFETCH: Final = 4

#: How much longer nothing is done than something.
REST: Final = 20

#: What it costs to receive a byte, of which nothing can be seen here. Of 16 MiB it is 17 ms.
RECEIVING_S_PER_BYTE: Final = 1e-9

#: Orders that take their time, under way at once.
MAX_UNDER_WAY: Final = 4

#: How long an answer may be on its way.
ANSWER_LIMIT_S: Final = 5.0


class Control:
    """Answers for `worker` from entering to leaving it, and announces it; `roster` is told of the others.

    Orders that change something are refused unless it `obeys`. `stop` is called by an order to drain.
    """

    def __init__(
        self,
        transport: Transport,
        names: Names,
        worker: Worker,
        manager: PluginManager,
        roster: Roster,
        *,
        obeys: bool,
        stop: Callable[[], None],
        period_s: float = PERIOD_S,
    ) -> None:
        self._transport = transport
        self._topology = control_topology(names, new_message_id())
        self._reply_queues = names.reply_queues
        self._roster = roster
        self._manager = manager
        self._here = Here(worker, manager, obeys, stop, now())
        self._seldom = Seldom()
        self._leaving = False
        self._announcer = Announcer(transport, names, self._announcement, seldom=self._seldom, period_s=period_s)
        self._arrived: asyncio.Queue[Delivery] = asyncio.Queue()
        self._under_way: set[asyncio.Task[None]] = set()
        self._consumer: Consumer | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._unobserve: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        """Raises `BusError`."""
        await self._transport.declare(self._topology)
        queue = self._topology.queues[0].name
        self._consumer = await self._transport.consume(queue, self._arrived.put_nowait, prefetch=PREFETCH)
        self._hearing = asyncio.create_task(self._hear())
        self._unobserve = self._manager.observe(self._on_change)
        self._announcer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say goodbye, and hear nothing more. Orders under way are given up; their plugins stay as they are."""
        self._leaving = True
        self._announcer.stop()
        if self._unobserve is not None:
            self._unobserve()
        for task in (self._hearing, *self._under_way):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        if self._consumer is not None:
            with suppress(BusError):
                await self._consumer.cancel()

    def changed(self) -> None:
        """The worker has changed: it drains, say. That is announced soon."""
        self._announcer.soon()

    def _announcement(self) -> Announcement:
        return self._here.announcement(WorkerState.GONE if self._leaving else None)

    def _on_change(self, event: LifecycleEvent) -> None:
        if not isinstance(event, PluginRefused):
            self._announcer.soon()

    # Hearing ------------------------------------------------------------------------------------------------------

    async def _hear(self) -> None:
        while True:
            delivery = await self._arrived.get()
            began = time.perf_counter()
            try:
                self._take(delivery.message)
            except Exception as error:  # noqa: BLE001 - whatever it is, the worker goes on
                if (more := self._seldom.may_say(type(error))) is not None:
                    _log.exception("a message on the control exchange failed%s", more)
            spent_s = time.perf_counter() - began + len(delivery.message.body) * RECEIVING_S_PER_BYTE
            await asyncio.sleep(spent_s * REST)
            with suppress(DeliveryLost):  # not before: the next one comes for it
                delivery.ack()

    def _take(self, message: Message) -> None:
        if message.type == ANNOUNCEMENT_TYPE:
            self._note(message)
        elif message.type == ORDER_TYPE:
            self._follow(message)
        else:
            reason = f"the message type is {message.type!r:.100}, and neither {ORDER_TYPE} nor {ANNOUNCEMENT_TYPE}"
            self._answer(message, self._problem(Problem.MALFORMED, reason))

    def _note(self, message: Message) -> None:
        try:
            announced = read_announcement(message)
        except MalformedMessage as malformed:
            self._say(Problem.MALFORMED, str(malformed))
            return
        if not self._roster.heard(announced, len(message.body)):
            self._say(Problem.TOO_LARGE, "there are more workers, or plugins, than can be remembered")

    def _follow(self, message: Message) -> None:
        try:
            order = read_order(message)
        except MalformedMessage as malformed:
            self._answer(message, self._problem(Problem.MALFORMED, str(malformed)))
            return
        if order.worker in (None, self._here.worker.name):
            self._answer(message, self._reason_against(order, message) or self._obey(order, message))

    def _reason_against(self, order: Order, message: Message) -> Answer | None:
        if not order.changes:
            return None
        if not self._here.obeys:
            return self._problem(Problem.REFUSED, "this worker answers questions and takes no orders (--no-orders)")
        if is_stale(message):
            reason = "the order came too late: its time was over before it was read (or the machines' clocks differ)"
            return self._problem(Problem.REFUSED, reason)
        return None

    # Obeying ------------------------------------------------------------------------------------------------------

    def _obey(self, order: Order, message: Message) -> Answer | None:
        """The answer; None where it comes later."""
        if order.changes and (more := self._seldom.may_say(order.name)) is not None:
            _log.info("ordered to %s %s%s", order.name, order.model_dump(exclude_none=True, exclude={"worker"}), more)
        try:
            answered = HANDLERS[type(order)](self._here, order)
        except (PluginError, ManifestError) as error:
            return self._failure(error)
        if isinstance(answered, dict):
            return self._done(answered)
        if len(self._under_way) >= MAX_UNDER_WAY:
            answered.close()
            reason = f"{MAX_UNDER_WAY} orders are under way, which is the most at a time"
            return self._problem(Problem.BUSY, reason)
        task = asyncio.create_task(self._answer_later(answered, message))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return None

    async def _answer_later(self, answering: Coroutine[Any, Any, Answered], message: Message) -> None:
        try:
            answer = self._done(await answering)
        except (PluginError, ManifestError) as error:
            answer = self._failure(error)
        except Exception as error:  # noqa: BLE001 - a defect; the worker goes on
            _log.exception("an order failed, and not by its fault")
            answer = self._problem(Problem.FAILED, f"the worker failed: {type(error).__name__}")
        self._answer(message, answer)

    def _done(self, answered: Answered) -> Answer:
        return Answer(worker=self._here.worker.name, peers=self._peers(), answer=answered)

    def _failure(self, error: Exception) -> Answer:
        kind = Problem.NOT_FOUND if isinstance(error, PluginNotFound) else Problem.FAILED
        return problem(self._here.worker.name, kind, str(error), self._peers())

    def _problem(self, kind: Problem, reason: str) -> Answer:
        self._say(kind, reason)
        return problem(self._here.worker.name, kind, reason, self._peers())

    def _peers(self) -> tuple[str, ...]:
        return tuple(peer.worker for peer in self._roster.peers())

    def _say(self, kind: Problem, reason: str) -> None:
        if (more := self._seldom.may_say(kind)) is not None:
            _log.warning("a message on the control exchange was not followed: %s%s", reason, more)

    def _answer(self, order: Message, answer: Answer | None) -> None:
        message = None if answer is None else answer_message(order, answer)
        if message is None or not message.routing_key.startswith(self._reply_queues):
            return
        try:
            self._transport.post(message, timeout_s=ANSWER_LIMIT_S).add_done_callback(self._answered)
        except (BusError, ValueError) as error:
            self._unanswered(error)

    def _answered(self, confirmed: asyncio.Future[None]) -> None:
        if not confirmed.cancelled() and (error := confirmed.exception()) is not None:
            self._unanswered(error)

    def _unanswered(self, error: BaseException) -> None:
        if (more := self._seldom.may_say(("answer", type(error)))) is not None:
            _log.warning("an answer did not get away: %s%s", error, more)
