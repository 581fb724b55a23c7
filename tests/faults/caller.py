"""Who publishes requests and hears what comes of them, outside Warren: with pika, on connections of its own.

No defect of Warren's transport can then be in the worker and its witness at once. pika blocks, so each connection has a
thread. Connections that are cut are made again, and a request that was not confirmed goes again under the same id.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import pika
from pika.exceptions import AMQPError, NackError

from warren.bus import Header, Topology

#: For the broker to confirm one request; longer than it is down in any test.
CONFIRM_LIMIT_S: Final = 60.0

#: Between attempts to connect or to publish again.
PAUSE_S: Final = 0.1

#: How long pika waits on a connection that the broker has blocked, and for a delivery, before it looks up.
BLOCKED_LIMIT_S: Final = 5.0
GLANCE_S: Final = 0.1

logging.getLogger("pika").setLevel(logging.CRITICAL)  # it reports each cut at length, and cuts are what is tested


@dataclass(frozen=True, slots=True)
class Ending:
    """A result or a dead letter, as it came."""

    request_id: str
    message_id: str | None
    routing_key: str
    headers: Mapping[str, Any]
    body: bytes

    @property
    def why(self) -> str:
        """The outcome, in a worker's word, or the broker's reason for a dead letter of its own."""
        return str(self.headers.get(Header.OUTCOME) or self.headers.get("x-first-death-reason"))


class Publisher:
    """Publishes with confirms, one message at a time. For one thread at a time."""

    def __init__(self, url: str, exchange: str) -> None:
        self._url = url
        self._exchange = exchange
        self._connection: Any = None
        self._channel: Any = None

    def publish(self, request_id: str, key: str, body: bytes) -> int:
        """Publish until it is confirmed; how many attempts were not. Raises TimeoutError."""
        properties = pika.BasicProperties(message_id=request_id, delivery_mode=2, content_type="application/json")
        deadline = time.monotonic() + CONFIRM_LIMIT_S
        unconfirmed = 0
        while not self._attempt(key, body, properties):
            unconfirmed += 1
            if time.monotonic() > deadline:
                raise TimeoutError(f"the broker did not confirm {request_id} within {CONFIRM_LIMIT_S:g} s")
            time.sleep(PAUSE_S)
        return unconfirmed

    def _attempt(self, key: str, body: bytes, properties: pika.BasicProperties) -> bool:
        try:
            if self._connection is None:
                self._connection = _connect(self._url)
                self._channel = self._connection.channel()
                self._channel.confirm_delivery()
            self._channel.basic_publish(self._exchange, key, body, properties)
        except NackError:
            return False
        except AMQPError:
            self.close()
            return False
        return True

    def close(self) -> None:
        if self._connection is not None:
            _close(self._connection)
            self._connection = None


def collect(url: str, queue: str, take: Callable[[Ending], object], over: threading.Event) -> None:
    """Hand over all that comes by a queue, across outages and the queue's deletion, until it is over."""
    while not over.is_set():
        with suppress(AMQPError), _closed_afterwards(_connect(url)) as connection:
            channel = connection.channel()
            for method, properties, body in channel.consume(queue, inactivity_timeout=GLANCE_S):
                if over.is_set():
                    return
                if method is not None:
                    take(_ending(method, properties, body))
                    channel.basic_ack(method.delivery_tag)
        over.wait(PAUSE_S)


def _ending(method: Any, properties: pika.BasicProperties, body: bytes) -> Ending:
    # A request of ours has an id alone; what is made of it carries that id as its correlation id.
    request_id = str(properties.correlation_id or properties.message_id)
    return Ending(request_id, properties.message_id, method.routing_key, properties.headers or {}, body)


def _connect(url: str) -> Any:
    parameters = pika.URLParameters(url)
    parameters.heartbeat = 0  # a publisher that has nothing to say is not to be cut off
    parameters.blocked_connection_timeout = BLOCKED_LIMIT_S
    return pika.BlockingConnection(parameters)


@contextmanager
def _closed_afterwards(connection: Any) -> Iterator[Any]:
    try:
        yield connection
    finally:
        _close(connection)


def _close(connection: Any) -> None:
    with suppress(AMQPError):
        connection.close()


def declare(url: str, topology: Topology) -> None:
    with _closed_afterwards(_connect(url)) as connection:
        channel = connection.channel()
        for exchange in topology.exchanges:
            channel.exchange_declare(exchange.name, exchange.kind, durable=True, arguments=exchange.arguments())
        for queue in topology.queues:
            channel.queue_declare(queue.name, durable=True, arguments=queue.arguments())
        for binding in topology.bindings:
            channel.queue_bind(binding.queue, binding.exchange, binding.routing_key)
