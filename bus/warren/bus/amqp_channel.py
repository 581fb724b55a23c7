"""What messages go through: a channel that publishes with confirms, and consumes. It lives once.

There are two, which tests hold to the same promises: `amqp_fast`, Warren's own framing over aio-pika's connection, and
`amqp_plain`, which leaves every frame to aiormq. The first is taken wherever it can be.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol, TypeAlias

from aiormq.abc import AbstractChannel

from .messages import Message
from .record import record


class Verdict(Enum):
    """How a publish ended."""

    CONFIRMED = auto()
    #: No queue takes it.
    RETURNED = auto()
    #: The broker would not have it: a full queue, most likely.
    REFUSED = auto()
    #: The channel went first; it may or may not be there.
    LOST = auto()
    #: There was no word in time; it may or may not be there.
    TIMED_OUT = auto()


class Settlement(Enum):
    """What is said about a delivery."""

    ACK = auto()
    REJECT = auto()
    #: basic.nack, not basic.reject: since RabbitMQ 4.3 only that counts towards the delivery limit.
    REQUEUE = auto()


@record
class Publishing:
    """A message on its way. Until the event loop's clock is at `deadline`, a channel tells `conclude` how it ended.

    `confirmed` is for whoever waits for it; `timeout_s` is what the deadline was made of.
    """

    message: Message
    message_id: str
    mandatory: bool
    timeout_s: float
    deadline: float
    confirmed: Future[None]
    conclude: Callable[[Publishing, Verdict, MessageChannel], None]


#: Given each message, its delivery tag, and whether it was delivered before. Must not raise.
Receiver: TypeAlias = Callable[[Message, int, bool], None]


class MessageChannel(Protocol):
    """One channel, in the hands of one publisher or consumer. Any of it may be called concurrently."""

    @property
    def raw(self) -> AbstractChannel:
        """aiormq's own channel, for all that is no message. Its `closing` is done once the channel is gone."""
        ...

    def publish(self, publishing: Publishing) -> None:
        """Publish, and conclude it once: in time, and not before this has returned.

        Raises ValueError for what cannot be said in AMQP.
        """
        ...

    async def consume(self, queue: str, receive: Receiver, *, no_ack: bool = False) -> str:
        """Have messages handed to `receive`; the consumer's tag. Raises what aiormq does."""
        ...

    def settle(self, tag: int, settlement: Settlement) -> None:
        """Settle one delivery, soon. Raises `ConnectionLost` when the channel is gone."""
        ...

    async def close(self) -> None:
        """Close it, after all that was settled."""
        ...
