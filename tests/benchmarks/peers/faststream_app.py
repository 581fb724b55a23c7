"""FastStream's worker: a subscriber that returns its reply, which FastStream publishes and then acks the request."""

from __future__ import annotations

import os
from typing import Any

from faststream import FastStream  # pyright: ignore[reportMissingImports]
from faststream.rabbit import (  # pyright: ignore[reportMissingImports]
    Channel,
    RabbitBroker,
    RabbitQueue,
    RabbitResponse,
)

PREFETCH = 400

broker = RabbitBroker(os.environ["BENCH_URL"], default_channel=Channel(prefetch_count=PREFETCH), logger=None)
app = FastStream(broker, logger=None)


@broker.subscriber(RabbitQueue(os.environ["BENCH_QUEUE"], declare=False))
async def echo(request: dict[str, Any]) -> RabbitResponse:
    return RabbitResponse({"success": True, "result": request, "error": None}, persist=True)
