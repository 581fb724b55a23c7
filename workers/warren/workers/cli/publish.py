"""`warren publish`: one event, or one message to one plugin."""

from __future__ import annotations

import asyncio
from typing import Any

from rich.text import Text

from warren.bus import Client

from ..text import printable
from .exit_codes import ExitCode
from .failures import WrongUsage
from .json_data import print_json, read_data
from .logs import configure_logging
from .output import stdout


def run(
    topic: str, data: str | None, *, broker: str, to: str | None, timeout_s: float, prefix: str, as_json: bool
) -> ExitCode:
    """Publish, and print the message's id once the broker has it."""
    configure_logging("warning", as_json=as_json)
    client = Client(broker, prefix=prefix, timeout_s=timeout_s)
    message_id = asyncio.run(_publish(client, topic, read_data(data), to))
    if as_json:
        print_json({"message_id": message_id, "topic": topic, "to": to})
    else:
        receiver = f" to {to}" if to else ""
        stdout().print(Text.assemble(f"published {printable(topic)}{receiver} ", (message_id, "dim")), soft_wrap=True)
    return ExitCode.OK


async def _publish(client: Client, topic: str, payload: Any, to: str | None) -> str:
    async with client:
        try:
            return await (client.send(to, topic, payload) if to else client.publish(topic, payload))
        except ValueError as error:
            raise WrongUsage(str(error)) from error
