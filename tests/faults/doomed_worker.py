"""A worker that kills itself in a window of a message's path that no signal from outside could hit.

    a delivery arrives ── DELIVERED ── its run, RUNNING ── its result is published ── PUBLISHED, the broker has it but
    its confirm is still under way ── the confirm arrives ── CONFIRMED ── the delivery is acked

It is the real `Worker` on the real transport. What is put between the two only counts, and ends the process by SIGKILL
when the window has been reached for the n-th time: in the delivery that is handed over and acked, in the host function
`die`, and in the wire, where the broker's confirms pass and the last of them does not get through.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Final

from tests.faults.digger import DIE
from tests.faults.proxy import Proxy, Way
from tests.worker_process import WorkerProcess
from warren.bus import DEFAULT_DELIVERY_LIMIT, Consumer, Delivery, Message
from warren.bus.amqp import AmqpTransport
from warren.plugins import PluginManager, host_function
from warren.workers.settings import WorkerSettings
from warren.workers.worker import Worker

ROOT: Final = Path(__file__).parents[2]

#: What the broker's basic.ack, a confirm, has after its channel: the size of its payload, class and method. The number
#: of the publish up to which it confirms follows.
CONFIRM: Final = b"\x00\x00\x00\x0d\x00\x3c\x00\x50"


class Window(StrEnum):
    """Where it dies."""

    DELIVERED = "delivered"
    RUNNING = "running"
    PUBLISHED = "published"
    CONFIRMED = "confirmed"


class Doom:
    """The end of this process, when `window` has been passed that often."""

    def __init__(self, window: Window, passages: int) -> None:
        self._window = window
        self._left = passages
        self._confirmed = 0

    def passes(self, window: Window, times: int = 1) -> None:
        if window is self._window:
            self._left -= times
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, way: Way, data: bytes) -> bytes:
        """For `Proxy.tamper`."""
        at = data.rfind(CONFIRM) + len(CONFIRM)
        if way is Way.TO_CLIENT and at >= len(CONFIRM):
            confirmed, self._confirmed = self._confirmed, int.from_bytes(data[at : at + 8])
            self.passes(Window.PUBLISHED, self._confirmed - confirmed)
        return data

    def die(self) -> None:
        """The host function."""
        self.passes(Window.RUNNING)


class DoomedDelivery:
    """A delivery, with a window on either end."""

    def __init__(self, delivery: Delivery, doom: Doom) -> None:
        self._delivery = delivery
        self._doom = doom

    @property
    def message(self) -> Message:
        return self._delivery.message

    @property
    def redelivered(self) -> bool:
        return self._delivery.redelivered

    def ack(self) -> None:
        self._doom.passes(Window.CONFIRMED)
        self._delivery.ack()

    def reject(self) -> None:
        self._delivery.reject()

    def requeue(self) -> None:
        self._delivery.requeue()


class DoomedTransport(AmqpTransport):
    """Hands over deliveries that may be the last."""

    doom: ClassVar[Doom]

    async def consume(self, queue: str, on_delivery: Callable[[Delivery], None], *, prefetch: int) -> Consumer:
        def hand_over(delivery: Delivery) -> None:
            self.doom.passes(Window.DELIVERED)
            on_delivery(DoomedDelivery(delivery, self.doom))

        return await super().consume(queue, hand_over, prefetch=prefetch)


async def serve(settings: WorkerSettings, doom: Doom) -> None:
    """Serve until the end."""
    async with (
        Proxy(settings.broker).listening() as proxy,
        PluginManager(settings.plugins, host_functions=[host_function(name=DIE)(doom.die)]) as manager,
    ):
        proxy.tamper = doom.watch
        DoomedTransport.doom = doom
        transport = await DoomedTransport.connect(proxy.url)
        await Worker(transport, manager, settings).start()
        await asyncio.Event().wait()


@asynccontextmanager
async def doomed_worker(
    plugins: Path,
    url: str,
    prefix: str,
    window: Window,
    passages: int = 1,
    *,
    delivery_limit: int = DEFAULT_DELIVERY_LIMIT,
    prefetch: int = 100,
) -> AsyncIterator[WorkerProcess]:
    """Start one; it may be dead before it could say that it serves."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.doomed_worker", str(plugins), url, prefix, window, str(passages)),
        *("--prefetch", str(prefetch), "--delivery-limit", str(delivery_limit)),
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    worker = WorkerProcess(process)
    try:
        yield worker
    finally:
        if process.returncode is None:
            await worker.kill()


def main() -> None:
    parser = ArgumentParser()
    parser.add_argument("plugins", type=Path)
    parser.add_argument("broker")
    parser.add_argument("prefix")
    parser.add_argument("window", type=Window)
    parser.add_argument("passages", type=int)
    parser.add_argument("--prefetch", type=int)
    parser.add_argument("--delivery-limit", type=int)
    given = vars(parser.parse_args())
    doom = Doom(given.pop("window"), given.pop("passages"))
    asyncio.run(serve(WorkerSettings(**given), doom))


if __name__ == "__main__":
    main()
