"""Consuming one queue: every delivery is seen to its settlement, whatever happens to it.

At most `prefetch` deliveries are under way at a time. Each is acked when all that follows from it is safe with the
broker, and goes back when that fails: nothing stays unsettled, and nothing is acked unserved. What comes in one turn of
the event loop is served together. Most then wait for a confirm, which needs no task; the others are a task each.

A request that kills its process takes all down that are unsettled beside it, and RabbitMQ counts that against each of
them. Were they taken together again, a culprit would be dead-lettered with all its neighbours. So a mailbox takes
several at once only while nothing is suspect, which means: came to nothing before.

    careful   one at a time: from the start, and after suspects. The first that is not suspect makes it wide; and so
              does one that waits to go back, which would be the only one again and again.
    wide      `prefetch` at a time, by a second consumer. The first suspect makes it careful: that consumer leaves, what
              runs may end, then what is here is served one after the other.

A culprit then dies alone, again and again, until it exceeds the queue's delivery limit. Its neighbours have been with
it at most once for each worker that was wide. Rejected: serving suspects one by one while others are taken too, since
those would be the next to be counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

from warren.bus import DELIVERY_COUNT, BusError, Consumer, Delivery, DeliveryLost, PublishError, Transport

from .metrics import WorkerMetrics
from .seldom import Seldom

_log = logging.getLogger(__name__)

#: How long a delivery that could not be seen to its end waits before it goes back, the first time and from then on.
#: What failed (a queue that is full or was deleted) fails at once again, and the broker would hand it over at once.
GIVE_BACK_PAUSES_S: Final = (0.2, 2.0)

#: How long suspects wait for what runs beside them. Longer runs are not waited for: nothing is taken meanwhile.
SUSPECTS_WAIT_S: Final = 1.0

#: Deliveries that are served in one turn of the event loop at most; 32 cost an eighth more each, 128 no less, measured.
TURN: Final = 64

#: How long a turn is to take. What else the event loop has to do waits for that, and for the first results, too.
TURN_S: Final = 0.02

#: Between attempts to consume again.
CONSUME_PAUSE_S: Final = 1.0


class Sent:
    """An answer on its way: all that is left is the broker's word that it has it. For others to build on.

    (No `abc.ABC`, nor a protocol: each answer is asked whether it is one, which takes those five times as long.)
    """

    __slots__ = ()

    confirmed: asyncio.Future[None]

    async def complete(self) -> None:
        """Wait for it, and do what remains to be done where the broker would not have it."""
        raise NotImplementedError


#: How far a delivery was served: to its end (None), to an answer on its way, to where it has to wait, or not at all.
Served = Sent | Coroutine[Any, Any, None] | Exception | None

#: Serves deliveries, and tells of each how far.
Serve = Callable[[Sequence[Delivery]], Sequence[Served]]


class Mailbox:
    """One queue, consumed from `start` to `drain`. `under_way` is what is, in all mailboxes of a worker."""

    def __init__(
        self,
        transport: Transport,
        queue: str,
        serve: Serve,
        *,
        prefetch: int,
        metrics: WorkerMetrics,
        under_way: set[asyncio.Future[None]],
    ) -> None:
        self._transport = transport
        self._queue = queue
        self._serve = serve
        self._prefetch = prefetch
        self._metrics = metrics
        self._under_way = under_way
        self._draining = asyncio.Event()
        self._is_over = False
        self._first: Consumer | None = None
        self._more: Consumer | None = None
        self._waiting: deque[Delivery] = deque()
        self._arrived: list[Delivery] = []
        self._turn = 1
        self._clock = time.monotonic
        self._may_widen = False
        self._adapting: asyncio.Task[None] | None = None
        self._failures = Failures(queue)

    async def start(self) -> None:
        """Raises `BusError`."""
        self._first = await self._transport.consume(self._queue, self._take, prefetch=1)

    def hold(self) -> None:
        """Begin nothing more. What comes until `drain` is not looked at, and goes back then."""
        self._draining.set()

    @property
    def is_draining(self) -> bool:
        return self._draining.is_set()

    async def drain(self, limit_s: float) -> None:
        """Take nothing more; what has not begun goes back. What has is in `under_way`."""
        self.hold()
        await self._cancel()
        if (adapting := self._adapting) is not None:
            await asyncio.wait([adapting], timeout=limit_s)
            if not adapting.done():  # the broker is away
                adapting.cancel()
                await asyncio.wait([adapting])
            await self._cancel()
        self._is_over = True
        arrived, self._arrived = self._arrived, []
        for delivery in (*arrived, *self._waiting):
            self._give_back(delivery)
        self._waiting.clear()

    async def _cancel(self) -> None:
        for consumer in (self._first, self._more):
            if consumer is not None:
                await consumer.cancel()

    # How many at a time -------------------------------------------------------------------------------------------

    def _take(self, delivery: Delivery) -> None:
        if self._is_over:
            self._give_back(delivery)
            return
        if self._draining.is_set():
            self._arrived.append(delivery)
            return
        is_suspect = _is_suspect(delivery)
        if self._waiting or (is_suspect and self._more is not None):
            self._waiting.append(delivery)
            self._adapt()
            return
        self._begin(delivery)
        if not is_suspect:
            self._take_more()

    def _take_more(self) -> None:
        if self._more is None and self._prefetch > 1:
            self._may_widen = True
            self._adapt()

    def _adapt(self) -> None:
        if self._adapting is None and not self._draining.is_set():
            self._adapting = asyncio.create_task(self._change())

    async def _change(self) -> None:
        try:
            while not self._draining.is_set() and (self._waiting or self._may_widen):
                await (self._narrow() if self._waiting else self._widen())
        finally:
            self._adapting = None

    async def _narrow(self) -> None:
        if self._more is not None:
            await self._more.cancel()
            self._more = None
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=SUSPECTS_WAIT_S)
        while self._waiting and not self._draining.is_set():
            delivery = self._waiting[0]
            (served,) = self._served([delivery])
            try:
                await asyncio.wait([self._see_to(delivery, _end_of(served))])
            finally:
                self._waiting.popleft()  # not before: what comes meanwhile is to wait, too
            self._may_widen = not _is_suspect(delivery)

    async def _widen(self) -> None:
        try:
            self._more = await self._transport.consume(self._queue, self._take, prefetch=self._prefetch - 1)
        except BusError as error:
            _log.warning("%s is consumed one by one: %s", self._queue, error)
            await asyncio.sleep(CONSUME_PAUSE_S)
        else:
            self._may_widen = False

    # One delivery -------------------------------------------------------------------------------------------------

    def _begin(self, delivery: Delivery) -> None:
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self._serve_arrived)
        self._arrived.append(delivery)

    def _serve_arrived(self) -> None:
        """Serve what has come, and no more than has its time in one turn, as far as one can tell from the last."""
        if self._draining.is_set():  # it goes back
            return
        count = self._turn
        deliveries, self._arrived = self._arrived[:count], self._arrived[count:]
        if self._arrived:
            asyncio.get_running_loop().call_soon(self._serve_arrived)
        began = self._clock()
        for delivery, served in zip(deliveries, self._served(deliveries), strict=True):
            self._follow(delivery, served)
        took_s = max(self._clock() - began, 1e-9)
        self._turn = max(1, min(TURN, int(len(deliveries) * TURN_S / took_s)))

    def _served(self, deliveries: Sequence[Delivery]) -> Sequence[Served]:
        try:
            return self._serve(deliveries)
        except Exception as error:  # noqa: BLE001 - a defect; nothing must stay unsettled for it
            return [error] * len(deliveries)

    def _follow(self, delivery: Delivery, served: Served) -> None:
        if isinstance(served, Sent):
            self._under_way.add(served.confirmed)
            served.confirmed.add_done_callback(partial(self._on_confirmed, delivery, served))
        elif served is None:
            self._ack(delivery)
        elif isinstance(served, Exception):
            self._fail(delivery, served)
        else:
            self._see_to(delivery, served)

    def _on_confirmed(self, delivery: Delivery, sent: Sent, confirmed: asyncio.Future[None]) -> None:
        if confirmed.cancelled() or confirmed.exception() is None:
            self._on_end(delivery, confirmed)
        else:
            self._under_way.discard(confirmed)
            self._see_to(delivery, sent.complete())

    def _see_to(self, delivery: Delivery, serving: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._go(serving)
        task.add_done_callback(partial(self._on_end, delivery))
        return task

    def _on_end(self, delivery: Delivery, served: asyncio.Future[None]) -> None:
        self._under_way.discard(served)
        if served.cancelled():  # the worker drains, and its time is up
            self._give_back(delivery)
        elif isinstance(error := served.exception(), Exception):
            self._fail(delivery, error)
        else:
            self._ack(delivery)

    def _go(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    def _ack(self, delivery: Delivery) -> None:
        try:
            delivery.ack()
        except DeliveryLost:
            _log.debug("a delivery was taken back by the broker; it comes again")

    def _fail(self, delivery: Delivery, error: Exception) -> None:
        self._failures.tell(error)
        if isinstance(error, PublishError):
            self._metrics.publish_failed(error)
        self._go(self._give_back_later(delivery))
        self._take_more()

    async def _give_back_later(self, delivery: Delivery) -> None:
        try:
            async with asyncio.timeout(GIVE_BACK_PAUSES_S[delivery.redelivered]):
                await self._draining.wait()
        except TimeoutError:
            pass
        finally:
            self._give_back(delivery)

    def _give_back(self, delivery: Delivery) -> None:
        self._metrics.given_back += 1
        try:
            delivery.requeue()
        except BusError as error:
            _log.debug("a delivery could not be given back: %s", error)


class Failures:
    """Tells why deliveries go back: at once, and then once a minute, however many a broker that is away sends back."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._seldom = Seldom()

    def tell(self, error: Exception) -> None:
        more = self._seldom.may_say(type(error))
        if more is None:
            return
        if isinstance(error, BusError):
            _log.warning("a delivery goes back to %s: %s%s", self._queue, error, more)
        else:
            _log.error("a delivery goes back to %s: the worker failed%s", self._queue, more, exc_info=error)


async def _end_of(served: Served) -> None:
    """See it through, from wherever it has come to."""
    if isinstance(served, Coroutine):
        await served
    elif isinstance(served, Exception):
        raise served
    elif served is not None:
        await served.complete()


def _is_suspect(delivery: Delivery) -> bool:
    """Whether it was delivered before, and came to nothing."""
    return delivery.redelivered and bool(delivery.message.headers.get(DELIVERY_COUNT))
