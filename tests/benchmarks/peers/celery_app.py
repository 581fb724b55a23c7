"""Celery's worker: acks late, results by its RPC backend, persistent and confirmed.

On a quorum queue Celery sets up queues of its own for delayed tasks when it starts (`celery_delayed_*`, which stay).
They are idle here, and classic, which costs the broker least.
"""

from __future__ import annotations

import os

from celery import Celery  # pyright: ignore[reportMissingImports]
from kombu import Exchange, Queue  # pyright: ignore[reportMissingImports]

PREFETCH = 400

queue = Queue(
    os.environ["BENCH_QUEUE"], Exchange(""), no_declare=True, queue_arguments={"x-queue-type": "quorum"}, durable=True
)
app = Celery("bench", broker=os.environ["BENCH_URL"], backend="rpc://")
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_native_delayed_delivery_queue_type="classic",
    broker_transport_options={"confirm_publish": True},
    result_persistent=True,
    task_acks_late=True,
    task_default_queue=queue.name,
    task_queues=[queue],
    worker_enable_remote_control=False,
    worker_prefetch_multiplier=PREFETCH,
)


@app.task(name="echo")
def echo(text: str) -> dict[str, object]:
    return {"success": True, "result": {"action": "echo", "data": text}, "error": None}
