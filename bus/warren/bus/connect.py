"""From a URL to a transport."""

from __future__ import annotations

from .memory import MemoryTransport, shared_broker
from .ports import Transport


async def connect(url: str, *, timeout_s: float = 10.0, name: str = "warren") -> Transport:
    """A transport to the broker at `url`: `memory://[name]`, `amqp://…` or `amqps://…`. `name` shows on the broker.

    Raises ValueError for another scheme, BrokerUnreachable when nothing answers within `timeout_s`.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "memory":
        return MemoryTransport(shared_broker(rest.strip("/")))
    if scheme in {"amqp", "amqps"}:
        # Here, so that a program that stays in its process does not load an AMQP library.
        from .amqp import AmqpTransport  # noqa: PLC0415

        return await AmqpTransport.connect(url, timeout_s=timeout_s, name=name)
    raise ValueError(f"cannot connect to {safe_url(url)!r}: it must begin with memory://, amqp:// or amqps://")


def safe_url(url: str) -> str:
    """`url` without its password, to be shown. Whatever stands before the last '@' is taken for user and password."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    credentials, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{credentials.partition(':')[0]}{at}{host}"
