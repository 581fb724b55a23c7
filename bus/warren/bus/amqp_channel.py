"""What messages go through: a channel that publishes with confirms, and consumes. It lives once.

There are two, which tests hold to the same promises: `amqp_fast`, Warren's own framing over aio-pika's connection, and
`amqp_plain`, which leaves every frame to aiormq. The first is taken wherever it can be.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Protocol, TypeAlias

from aiormq.abc import AbstractChannel

from .messages import Message


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


#: Given each message, its delivery tag, and whether it was delivered before. Must not raise.
Receiver: TypeAlias = Callable[[Message, int, bool], None]


class MessageChannel(Protocol):
    """One channel, in the hands of one publisher or consumer. Any of it may be called concurrently."""

    @property
    def raw(self) -> AbstractChannel:
        """aiormq's own channel, for all that is no message. Its `closing` is done once the channel is gone."""
        ...

    def publish(self, message: Message, message_id: str, *, mandatory: bool, deadline: float) -> Awaitable[Verdict]:
        """Publish and wait for the broker's word until the event loop's clock is at `deadline`.

        Raises ValueError for what cannot be said in AMQP.
        """
        ...

    async def consume(self, queue: str, receive: Receiver, *, no_ack: bool = False) -> str:
        """Have messages handed to `receive`; the consumer's tag. Raises what aiormq does."""
        ...

    async def settle(self, tag: int, settlement: Settlement) -> None:
        """Settle one delivery. Raises `ConnectionLost` when the channel is gone."""
        ...

    async def close(self) -> None:
        """Close it, after all that was settled."""
        ...
