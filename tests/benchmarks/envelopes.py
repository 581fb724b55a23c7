"""How each library writes a request: the same text, in the envelope that its workers expect."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from tests.benchmarks.contenders import Envelope, Request
from warren.bus.messages import JSON_TYPE, REQUEST_TYPE, new_message_id


def json_request(text: str, reply_to: str) -> Request:
    """A request as Warren's wire has it, which others read as plain JSON."""
    request_id = new_message_id()
    properties = {"message_id": request_id, "correlation_id": request_id, "message_type": REQUEST_TYPE}
    return as_json({"action": "echo", "data": text}, {**properties, "reply_to": reply_to})


def taskiq_task(text: str, reply_to: str) -> Request:
    """A message of taskiq's default formatter."""
    identity = {"task_id": new_message_id(), "task_name": "echo"}
    task = {**identity, "labels": {}, "labels_types": {}, "args": [text, reply_to], "kwargs": {}}
    return as_json(task, {"headers": identity})


def dramatiq_task(queue: str) -> Envelope:
    """Dramatiq's JSON encoding; a message names its queue."""

    def envelope(text: str, reply_to: str) -> Request:
        identity = {"message_id": new_message_id(), "message_timestamp": time.time_ns() // 1_000_000}
        work = {"queue_name": queue, "actor_name": "echo", "args": [text, reply_to], "kwargs": {}, "options": {}}
        return as_json({**work, **identity}, {})

    return envelope


def celery_task(text: str, reply_to: str) -> Request:
    """Celery's message protocol, version 2 (https://docs.celeryq.dev/en/stable/internals/protocol.html)."""
    task_id = new_message_id()
    headers = {"lang": "py", "task": "echo", "id": task_id, "root_id": task_id, "parent_id": None, "group": None}
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    properties = {"headers": headers, "correlation_id": task_id, "reply_to": reply_to, "content_encoding": "utf-8"}
    return as_json([[text], {}, embed], properties)


def as_json(body: object, properties: Mapping[str, Any]) -> Request:
    return Request(json.dumps(body).encode(), {"content_type": JSON_TYPE, **properties})
