"""The one contract between Warren and a broker, which every transport keeps: `memory://` and `amqp(s)://`.

`tests/conformance` is this page as a test suite; a transport is finished when it passes. Rejected: a port per role
(publisher, consumer, admin), since each real transport is all three and every caller wants at least two.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from typing import Protocol

from .messages import Message
from .topology import Binding, Topology


class Delivery(Protocol):
    """One message handed to a consumer, to be settled exactly once, by whoever received it.

    A settlement is sent soon and never answered, so there is nothing to wait for. A second one, or one after the
    connection was lost (the broker has then taken the message back), raises `DeliveryLost` and does nothing: the
    transport never sends a settlement that could close a channel.
    """

    @property
    def message(self) -> Message: ...

    @property
    def redelivered(self) -> bool:
        """True: it may have been seen before. False: it has not."""
        ...

    def ack(self) -> None:
        """It is done; the broker may forget it."""
        ...

    def reject(self) -> None:
        """It is refused; the broker dead-letters it (or drops it where the queue has no dead-letter exchange)."""
        ...

    def requeue(self) -> None:
        """It goes back to its queue, for another consumer or for later; it will be `redelivered`."""
        ...


class Consumer(Protocol):
    """A running subscription to one queue. It survives reconnection: deliveries go on when the broker is back."""

    async def cancel(self) -> None:
        """Stop deliveries. What was delivered and is not settled stays with its receiver. Idempotent."""
        ...


class Transport(Protocol):
    """A connection to one broker. Every method may be called concurrently from one event loop.

    Whoever opened a transport closes it. After `close` every method raises `TransportClosed`. While the broker is
    away the methods wait for it, within their time limits, rather than fail at once.
    """

    async def declare(self, topology: Topology) -> None:
        """Make what is missing; idempotent. Raises `TopologyConflict` when something stands there differently.

        What was declared is declared again after an outage, and before it is consumed again.
        """
        ...

    async def bind(self, *bindings: Binding) -> None:
        """Make bindings once, between what is there; idempotent. They are not made again after an outage.

        Raises `QueueNotFound`, and `TopologyConflict` where there is no such exchange.
        """
        ...

    async def unbind(self, *bindings: Binding) -> None:
        """Undo bindings, whoever made them; idempotent, also where there is no such queue or exchange.

        What the queue got by them stays in it. They are not made again after an outage, as far as this transport goes:
        another that declared them makes them again after its own.
        """
        ...

    def forget(self, queue: str) -> None:
        """Declare neither this queue nor its bindings again after an outage; on the broker all stays as it is."""
        ...

    async def publish(self, message: Message, *, mandatory: bool = False, timeout_s: float | None = None) -> None:
        """Publish and return once the broker has confirmed that the message is safe in every queue it was routed to.

        Raises `Unroutable` when `mandatory` and no queue took it, `PublishRefused` when the broker refused it (a
        full queue; its subclass `MessageTooLarge`, for a size that the broker will not take later either),
        `PublishTimeout` when no word came in time (it may or may not be there: publish again with the same
        `message_id`), `TransportClosed`. Concurrent publishes are pipelined: none waits for another's confirm.

        `mandatory` means nothing for a direct reply (see `is_reply_address`): a caller who is gone is not noticed.
        """
        ...

    def post(self, message: Message, *, mandatory: bool = False, timeout_s: float | None = None) -> Future[None]:
        """What `publish` waits for: the message is on its way now, and the future tells what becomes of it.

        For whoever publishes thousands of messages a second, and has something else to do than wait for each. A
        future that is cancelled does not take its message back.
        """
        ...

    async def consume(self, queue: str, on_delivery: Callable[[Delivery], None], *, prefetch: int) -> Consumer:
        """Have each message of `queue` handed to `on_delivery`, at most `prefetch` of them unsettled at a time.

        `on_delivery` runs on the event loop, must not block, and must not raise. `queue` may be `DIRECT_REPLY_TO`:
        then the replies to messages this transport published with `reply_to=DIRECT_REPLY_TO` arrive, already settled.
        Raises `QueueNotFound`.
        """
        ...

    async def depth(self, queue: str) -> int:
        """How many messages wait in a queue; those that are delivered and unsettled do not count. `QueueNotFound`."""
        ...

    def impediment(self) -> str | None:
        """What keeps messages from going out or coming in just now, in words; None while nothing does."""
        ...

    async def close(self) -> None:
        """Cancel consumers, let publishes in flight finish or time out, and disconnect. Idempotent.

        Besides those publishes it takes seconds, whether the broker answers or not.
        """
        ...
