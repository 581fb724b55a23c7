"""What is decided of rollouts, as events on the bus: `warren.rollout.<plugin>.<decision>`, from every worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from pydantic_core import to_json

from warren.bus import BusError, Names, Transport, event_message

from .rollouts import RolloutChange

_log = logging.getLogger(__name__)

SENDER: Final = "warren"


def publishing(transport: Transport, names: Names, worker: str) -> Callable[[RolloutChange], None]:
    """Publishes each change that it is called with, and the worker's name. Nothing depends on whether that succeeds."""

    def publish(change: RolloutChange) -> None:
        message = event_message(
            names,
            sender=SENDER,
            to=None,
            topic=f"warren.rollout.{change.plugin}.{change.decision}",
            payload_json=to_json({"worker": worker} | asdict(change)),
            trace=None,
        )
        try:
            transport.post(message).add_done_callback(_see)
        except BusError as error:
            _log.warning("a change of a rollout was not published: %s", error)

    return publish


def _see(confirmed: asyncio.Future[None]) -> None:
    if not confirmed.cancelled() and (error := confirmed.exception()) is not None:
        _log.warning("a change of a rollout was not published: %s", error)
