from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conformance.inbox import Inbox, Post
from warren.bus import MemoryTransport, QueueNotFound, connect, safe_url


def test_importing_the_bus_loads_no_amqp_library() -> None:
    check = "import sys, warren.bus; print({'aio_pika', 'aiormq', 'pamqp'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


async def test_memory_transports_of_one_name_share_a_broker() -> None:
    one, other, stranger = [await connect(f"memory://{name}") for name in ("shared", "shared", "another")]
    await Post(one, "p").put(await Post(one, "p").queue(), b"hello")
    assert await (await Inbox.of(other, "p.queue")).bodies(1) == [b"hello"]
    with pytest.raises(QueueNotFound):
        await Inbox.of(stranger, "p.queue")
    for transport in (one, other, stranger):
        await transport.close()


async def test_a_memory_broker_goes_with_its_last_transport() -> None:
    first = await connect("memory://short-lived")
    await Post(first, "p").queue()
    await first.close()
    second = await connect("memory://short-lived")
    with pytest.raises(QueueNotFound):
        await Inbox.of(second, "p.queue")
    await second.close()


async def test_a_name_is_not_needed() -> None:
    transport = await connect("memory://")
    assert isinstance(transport, MemoryTransport)
    await transport.close()


@pytest.mark.parametrize("url", ["redis://user:secret@host", "user:secret@host", "", "http://localhost"])
async def test_another_scheme_is_refused_and_the_password_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="it must begin with memory://, amqp:// or amqps://") as raised:
        await connect(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://host:5672/vhost", "amqp://host:5672/vhost"),
        ("amqp://user:secret@host/vhost", "amqp://user@host/vhost"),
        ("amqp://user@host", "amqp://user@host"),
        ("amqp://user:sec@ret@host", "amqp://user@host"),
        ("amqp://user:sec/ret@host", "amqp://user@host"),
        ("amqp://user:se://cret@host", "amqp://user@host"),
        ("user:secret@host", "user@host"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert safe_url(url) == shown
