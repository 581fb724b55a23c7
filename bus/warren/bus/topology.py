"""Warren's exchanges, queues and bindings, as data. A transport declares it; nobody else names a queue.

    requests (topic) ──<plugin>.*──────────► plugin.<name>  (its mailbox; workers compete on it)
        └─ nothing bound ─► unrouted (fanout) ─► unrouted   (a worker answers "rejected")
    events   (topic) ──each subscription──► plugin.<name>
    direct   (direct) ──a queue's name────► plugin.<name>   (and retry.<name>.<delay>, which flows back)
    control  (fanout) ────────────────────► control.<unique>  (one for each worker, gone with it)
    results  (topic)                                         listeners bring queues of their own
    audit    (topic)                                         and so do those who keep the audit
    dead     (topic) ──#──────────────────► dead

`direct` is to one installation what the default exchange is to a whole vhost. Who may write to that may write to any
queue of the vhost, whoever's it is; so nothing but replies goes through it, which RabbitMQ leaves no other way for.

Arguments follow RabbitMQ's documentation of quorum queues (https://www.rabbitmq.com/docs/quorum-queues): at-least-once
dead-lettering needs `overflow=reject-publish`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from .messages import DIRECT_REPLY_TO

DEFAULT_PREFIX: Final = "warren"

#: Deliveries that may end without a word (a killed worker) before the broker dead-letters the message. Up to RabbitMQ
#: 4.2 one that a worker gives back, as it stops or as the plugin goes, counts too, so this has to be above the restarts
#: that a message may wait through; 20 is RabbitMQ 4's own default.
DEFAULT_DELIVERY_LIMIT: Final = 20

#: Of dead letters: none in practice, and as large as RabbitMQ takes it everywhere. To look at one and give it back
#: counts as a delivery, and without a limit of its own RabbitMQ 4 drops what was looked at more than 20 times.
DEAD_DELIVERY_LIMIT: Final = 2**31 - 1

_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")

#: Messages that wait for a listener at most.
LISTENER_MAX_LENGTH: Final = 100_000

#: What waits for one worker on the control exchange at most, and for how long. A flood drops its own oldest; and who
#: asked, or announced something, has stopped waiting, or said it again, by then.
CONTROL_MAX_LENGTH: Final = 1_000
CONTROL_MAX_BYTES: Final = 16 << 20
CONTROL_TTL_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange. What it cannot route goes to the exchange named `alternate`, when there is one."""

    name: str
    kind: Literal["topic", "fanout", "direct"] = "topic"
    alternate: str | None = None

    def arguments(self) -> dict[str, str]:
        """Its `x-arguments`, as RabbitMQ names them."""
        return {"alternate-exchange": self.alternate} if self.alternate else {}


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue. `transient` ones (for listeners and control) are classic, exclusive to their connection, and go with it.

    One that is full refuses messages; a transient one drops its oldest instead.
    """

    name: str
    transient: bool = False
    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None
    delivery_limit: int | None = None
    message_ttl_ms: int | None = None
    max_length: int | None = None
    max_length_bytes: int | None = None
    expires_ms: int | None = None

    def arguments(self) -> dict[str, str | int]:
        """Its `x-arguments`, as RabbitMQ names them."""
        named: dict[str, str | int | None] = {
            "x-queue-type": "classic" if self.transient else "quorum",
            "x-overflow": None if self.transient else "reject-publish",
            "x-dead-letter-strategy": None if self.transient or self.dead_letter_exchange is None else "at-least-once",
            "x-dead-letter-exchange": self.dead_letter_exchange,
            "x-dead-letter-routing-key": self.dead_letter_routing_key,
            "x-delivery-limit": self.delivery_limit,
            "x-message-ttl": self.message_ttl_ms,
            "x-max-length": self.max_length,
            "x-max-length-bytes": self.max_length_bytes,
            "x-expires": self.expires_ms,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Binding:
    """Messages of `exchange` whose key matches `routing_key` go to `queue`."""

    queue: str
    exchange: str
    routing_key: str = ""


@dataclass(frozen=True, slots=True)
class Topology:
    """What is to exist. Two are joined with `+`."""

    exchanges: tuple[Exchange, ...] = ()
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()

    def __add__(self, other: Topology) -> Topology:
        return Topology(self.exchanges + other.exchanges, self.queues + other.queues, self.bindings + other.bindings)


@dataclass(frozen=True, slots=True)
class Names:
    """The names of everything Warren has on a broker, under one prefix (several installations can share a vhost)."""

    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        """Raises ValueError for a prefix that is none, or that would make a name longer than AMQP's 255 bytes."""
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError(
                f"{self.prefix[:120]!r} cannot be a prefix: it needs 1 to 100 of A-Z, a-z, 0-9, '.', '_', '-'"
            )

    @property
    def requests(self) -> str:
        return f"{self.prefix}.requests"

    @property
    def results(self) -> str:
        return f"{self.prefix}.results"

    @property
    def events(self) -> str:
        return f"{self.prefix}.events"

    @property
    def control(self) -> str:
        return f"{self.prefix}.control"

    @property
    def audit(self) -> str:
        return f"{self.prefix}.audit"

    @property
    def direct(self) -> str:
        """Where every mailbox and retry queue is bound by its own name."""
        return f"{self.prefix}.direct"

    @property
    def reply_queues(self) -> tuple[str, ...]:
        """What the names of queues begin with that results may be sent to: nobody else's, as far as a name can tell.

        Direct replies, queues named by the server (which nobody can guess), and those under the prefix.
        """
        return (f"{DIRECT_REPLY_TO}.", "amq.gen-", f"{self.prefix}.")

    @property
    def dead(self) -> str:
        """The dead-letter exchange, and the queue behind it."""
        return f"{self.prefix}.dead"

    @property
    def unrouted(self) -> str:
        """Where requests for plugins that have no mailbox go (exchange and queue)."""
        return f"{self.prefix}.unrouted"

    def mailbox(self, plugin: str) -> str:
        return f"{self.prefix}.plugin.{plugin}"

    def retry(self, plugin: str, delay_ms: int) -> str:
        return f"{self.prefix}.retry.{plugin}.{delay_ms}"

    def control_of(self, unique: str) -> str:
        return f"{self.control}.{unique}"

    def listener(self, unique: str) -> str:
        return f"{self.prefix}.listen.{unique}"


def base_topology(names: Names) -> Topology:
    """What every installation has: declared by workers and clients alike, whoever comes first."""
    return Topology(
        exchanges=(
            Exchange(names.unrouted, "fanout"),
            Exchange(names.requests, alternate=names.unrouted),
            Exchange(names.results),
            Exchange(names.events),
            Exchange(names.control, "fanout"),
            Exchange(names.audit),
            Exchange(names.direct, "direct"),
            Exchange(names.dead),
        ),
        queues=(
            Queue(names.dead, delivery_limit=DEAD_DELIVERY_LIMIT),
            Queue(names.unrouted, dead_letter_exchange=names.dead, delivery_limit=DEFAULT_DELIVERY_LIMIT),
        ),
        bindings=(Binding(names.dead, names.dead, "#"), Binding(names.unrouted, names.unrouted)),
    )


def mailbox_topology(
    names: Names, plugin: str, subscriptions: tuple[str, ...] = (), *, delivery_limit: int = DEFAULT_DELIVERY_LIMIT
) -> Topology:
    """A plugin's mailbox: its requests and each topic pattern it subscribes to."""
    mailbox = names.mailbox(plugin)
    return Topology(
        queues=(Queue(mailbox, dead_letter_exchange=names.dead, delivery_limit=delivery_limit),),
        bindings=(
            Binding(mailbox, names.requests, f"{plugin}.*"),
            Binding(mailbox, names.direct, mailbox),
            *(Binding(mailbox, names.events, pattern) for pattern in subscriptions),
        ),
    )


def retry_topology(names: Names, plugin: str, delay_ms: int) -> Topology:
    """A queue in which messages rest for `delay_ms` and then flow back to the mailbox.

    It goes with its messages when nobody has declared it for longer than its messages can rest in it, so it is to be
    declared again before each publish: publishing alone does not count as use.
    """
    queue = names.retry(plugin, delay_ms)
    resting = Queue(
        queue,
        dead_letter_exchange=names.direct,
        dead_letter_routing_key=names.mailbox(plugin),
        message_ttl_ms=delay_ms,
        expires_ms=delay_ms * 2 + 600_000,
    )
    return Topology(queues=(resting,), bindings=(Binding(queue, names.direct, queue),))


def control_topology(names: Names, unique: str) -> Topology:
    """A queue of one worker's own, for orders and announcements."""
    queue = names.control_of(unique)
    hearing = Queue(
        queue,
        transient=True,
        message_ttl_ms=CONTROL_TTL_MS,
        max_length=CONTROL_MAX_LENGTH,
        max_length_bytes=CONTROL_MAX_BYTES,
    )
    return Topology(queues=(hearing,), bindings=(Binding(queue, names.control),))


def listener_topology(names: Names, exchange: str, pattern: str, unique: str) -> Topology:
    """A queue of a listener's own, gone a minute after it, or with its connection.

    It is bounded: a listener that cannot keep up loses the oldest of what it has not heard yet.
    """
    queue = names.listener(unique)
    listening = Queue(queue, transient=True, max_length=LISTENER_MAX_LENGTH, expires_ms=60_000)
    return Topology(queues=(listening,), bindings=(Binding(queue, exchange, pattern),))
