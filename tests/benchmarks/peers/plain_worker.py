"""The worker that Warren is measured beside: what one writes with aio-pika and no sandbox, and it only echoes.

A task per message (aio-pika's own way), prefetch 400, persistent results with publisher confirms, the request acked
once its result is confirmed: the promises Warren keeps too. Run as `plain_worker.py URL QUEUE`.
"""

from __future__ import annotations

import asyncio
import sys

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

PREFETCH = 400


async def work(url: str, queue_name: str) -> None:
    """Echo what arrives in the queue until the process is stopped."""
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(queue_name)

        async def echo(request: AbstractIncomingMessage) -> None:
            async with request.process():
                result = aio_pika.Message(
                    b'{"success":true,"result":' + request.body + b',"error":null}',
                    content_type="application/json",
                    correlation_id=request.correlation_id,
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                )
                await channel.default_exchange.publish(result, str(request.reply_to))

        await queue.consume(echo)
        await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
