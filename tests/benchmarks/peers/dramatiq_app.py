"""Dramatiq's worker. No result backend keeps results on RabbitMQ, so the actor publishes its own, as one would."""

from __future__ import annotations

import json
import os

import dramatiq  # pyright: ignore[reportMissingImports]
import pika
from dramatiq.brokers.rabbitmq import RabbitmqBroker  # pyright: ignore[reportMissingImports]

PERSISTENT_JSON = pika.BasicProperties(content_type="application/json", delivery_mode=2)


class QuorumBroker(RabbitmqBroker):  # type: ignore[misc]  # pyright: ignore[reportUntypedBaseClass]
    """Dramatiq knows classic queues only; the requests of all workers here are in quorum queues."""

    def _build_queue_arguments(self, queue_name: str) -> dict[str, object]:
        return {**super()._build_queue_arguments(queue_name), "x-queue-type": "quorum"}


broker = QuorumBroker(url=os.environ["BENCH_URL"], confirm_delivery=True)
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name="echo", queue_name=os.environ["BENCH_QUEUE"])
def echo(text: str, reply_to: str) -> None:
    body = json.dumps({"success": True, "result": {"action": "echo", "data": text}, "error": None}).encode()
    broker.channel.basic_publish("", reply_to, body, PERSISTENT_JSON)
