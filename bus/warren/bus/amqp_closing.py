"""The ends of channels and connections: how aiormq says that they are gone, and how long a farewell may take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelClosed

from .errors import BusError

#: For the broker's answer when a consumer or a channel takes its leave. The broker may be gone without our knowing:
#: the heartbeat would tell, but late.
FAREWELL_LIMIT_S: Final = 3.0


class ConnectionLost(Exception):
    """The channel or its connection ended while something was under way on it."""


@contextmanager
def lost_when_closed(resource: AbstractChannel | AbstractConnection) -> Iterator[None]:
    """Turn the many ways in which aiormq says that a channel or connection is gone into `ConnectionLost`.

    What remains is what the broker refused: a `ChannelClosed` with its reason, or a `DeliveryError`.
    """
    task = asyncio.current_task()
    cancellations = task.cancelling() if task else 0
    try:
        yield
    except asyncio.CancelledError:
        # aiormq lets those who wait on a closing channel end with a CancelledError, though nobody cancelled them.
        if task is None or task.cancelling() > cancellations:
            raise
        raise ConnectionLost from None
    except ChannelClosed as refusal:
        if refusal.args[0] is None:  # closed by this side, not by the broker
            raise ConnectionLost from refusal
        raise
    except BusError:
        raise  # a refusal that was put in words already
    except Exception as error:
        # A frame that cannot be read ends the connection with any error at all, and everybody on it gets that one.
        if resource.is_closed or isinstance(error, (ConnectionError, RuntimeError)):
            raise ConnectionLost from error
        raise


async def unless_silent(farewell: Awaitable[object]) -> None:
    """Wait until the broker has answered a farewell, though not for long: nothing depends on its answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FAREWELL_LIMIT_S):
            await farewell
