"""taskiq's worker. No result backend keeps results on RabbitMQ, so the task publishes its own, as one would."""

from __future__ import annotations

import json
import os

from aio_pika import DeliveryMode, Message
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue  # pyright: ignore[reportMissingImports]

PREFETCH = 400

broker = AioPikaBroker(
    os.environ["BENCH_URL"],
    qos=PREFETCH,
    exchange=Exchange(name=os.environ["BENCH_EXCHANGE"], declare=False),
    task_queues=[Queue(name=os.environ["BENCH_QUEUE"], declare=False)],
    dead_letter_queue=Queue(name=os.environ["BENCH_DEAD"], declare=False),
)


@broker.task(task_name="echo")
async def echo(text: str, reply_to: str) -> None:
    body = json.dumps({"success": True, "result": {"action": "echo", "data": text}, "error": None}).encode()
    result = Message(body, content_type="application/json", delivery_mode=DeliveryMode.PERSISTENT)
    await broker.write_channel.default_exchange.publish(result, reply_to)
