"""A publisher that knows nothing of Warren: RabbitMQ's own `pika`, and the wire as the README has it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pika
import pytest

from tests.broker import Broker
from tests.worker_process import worker_process

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

EXAMPLES = Path(__file__).parents[2] / "plugins" / "examples"

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"


def ask(url: str, prefix: str, body: bytes, **properties: Any) -> tuple[Any, bytes]:
    """Publish one request to text_processor and wait for its answer, by direct reply-to: properties and body."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    answers: list[tuple[Any, bytes]] = []
    try:
        channel = connection.channel()
        channel.basic_consume(
            "amq.rabbitmq.reply-to",
            lambda _channel, _method, answer, content: answers.append((answer, content)),
            auto_ack=True,
        )
        channel.basic_publish(
            f"{prefix}.requests",
            "text_processor.process_data",
            body,
            pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", **properties),
        )
        deadline = time.monotonic() + 60
        while not answers and time.monotonic() < deadline:
            connection.process_data_events(time_limit=1)
        return answers[0]
    finally:
        connection.close()


async def test_a_request_in_plain_amqp_is_answered_with_its_trace(broker: Broker, prefix: str) -> None:
    body = json.dumps({"action": "process_data", "data": {"text": "Rabbits dig."}}).encode()
    headers = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"}
    async with worker_process(EXAMPLES, broker.url, prefix):
        answer, content = await asyncio.to_thread(
            ask, broker.url, prefix, body, message_id="order-1", correlation_id="mine", headers=headers
        )
    assert json.loads(content)["success"] is True
    assert answer.correlation_id == "mine"
    assert answer.content_type == "application/json"
    said = answer.headers
    assert said["warren-outcome"] == "ok"
    assert said["warren-plugin"] == "text_processor"
    assert said["warren-fuel"] > 0
    assert said["traceparent"].split("-")[1] == TRACE_ID

    trace = json.loads(said["warren-trace"])
    assert trace["trace_id"] == TRACE_ID
    first = trace["spans"][0]
    assert (first["name"], first["parent_id"]) == (f"process {prefix}.plugin.text_processor", SPAN_ID)
    assert [span["name"] for span in trace["spans"]].count("run text_processor") == 1


async def test_a_request_that_is_not_json_and_has_no_id_is_rejected_in_so_many_words(
    broker: Broker, prefix: str
) -> None:
    async with worker_process(EXAMPLES, broker.url, prefix):
        answer, content = await asyncio.to_thread(ask, broker.url, prefix, b"hello")
    assert answer.headers["warren-outcome"] == "rejected"
    assert "not JSON" in json.loads(content)["error"]
