"""What can go wrong on the bus. One root, `BusError`; every error carries its data and makes its own sentence."""

from __future__ import annotations


class BusError(Exception):
    """The root of all errors that the bus raises."""


class BrokerUnreachable(BusError):
    """No connection could be made within the time limit."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot reach the broker at {self.url}: {self.reason}"


class TransportClosed(BusError):
    """The transport was closed, by its owner."""

    def __str__(self) -> str:
        return "the connection to the broker was closed"


class TopologyConflict(BusError):
    """Something of that name stands on the broker already, and differs."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name!r} exists on the broker with other properties: {self.reason}"


class QueueNotFound(BusError):
    """There is no such queue to consume from."""

    def __init__(self, queue: str) -> None:
        self.queue = queue

    def __str__(self) -> str:
        return f"there is no queue {self.queue!r} on the broker"


class PublishError(BusError):
    """A publish that did not end in the broker's confirmation."""

    def __init__(self, exchange: str, routing_key: str) -> None:
        self.exchange = exchange
        self.routing_key = routing_key

    @property
    def destination(self) -> str:
        """The destination in words."""
        return f"exchange {self.exchange!r} with key {self.routing_key!r}" if self.exchange else repr(self.routing_key)


class Unroutable(PublishError):
    """A mandatory message that no queue took."""

    def __str__(self) -> str:
        return f"no queue takes messages for {self.destination}"


class UnknownPlugin(Unroutable):
    """A direct message to a plugin that has no mailbox."""

    def __init__(self, plugin: str, mailbox: str) -> None:
        super().__init__("", mailbox)
        self.plugin = plugin

    def __str__(self) -> str:
        return f"no worker has ever served the plugin {self.plugin!r}: there is no queue {self.routing_key!r}"


class PublishRefused(PublishError):
    """The broker refused the message (a full queue, or an internal error of the broker)."""

    def __str__(self) -> str:
        return f"the broker refused a message for {self.destination}; its queue may be full"


class OrderNotAllowed(PublishRefused):
    """The broker did not let an order through to the workers."""

    def __str__(self) -> str:
        return (
            f"the broker takes no order from this user: it may not write to {self.exchange!r} "
            "(bus/CONTROL.md has the permissions that it takes)"
        )


class MessageTooLarge(PublishRefused):
    """The broker takes no message of that size, neither now nor later."""

    def __init__(self, exchange: str, routing_key: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(exchange, routing_key)
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        return (
            f"a message for {self.destination} has {self.size_bytes:,} bytes; "
            f"the broker takes at most {self.limit_bytes:,} (its max_message_size)"
        )


class PublishTimeout(PublishError):
    """No confirmation came in time; the message may or may not be there."""

    def __init__(self, exchange: str, routing_key: str, timeout_s: float) -> None:
        super().__init__(exchange, routing_key)
        self.timeout_s = timeout_s

    def __str__(self) -> str:
        return f"no confirmation within {self.timeout_s:g} s for a message to {self.destination}"


class DeliveryLost(BusError):
    """A settlement of a delivery that is no longer ours: settled already, or taken back by the broker."""

    def __str__(self) -> str:
        return "the delivery was settled already, or the broker has taken it back"


class MalformedMessage(BusError):
    """A message that is not what its type says. Its sender's fault; trying again changes nothing."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class CallTimeout(BusError):
    """No result came in time. The request may still be served: its result then finds no one waiting."""

    def __init__(self, plugin: str, action: str, timeout_s: float) -> None:
        self.plugin = plugin
        self.action = action
        self.timeout_s = timeout_s

    def __str__(self) -> str:
        return f"no result from {self.plugin}.{self.action} within {self.timeout_s:g} s"
