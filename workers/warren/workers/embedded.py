"""Everything in one process and with no broker: a worker on the memory bus, and a client to it.

async with embedded("plugins") as here:
    result = await here.client.call("text_processor", "get_status")
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warren.bus import Client, connect, new_message_id
from warren.manifests import Policy
from warren.plugins import EmbedderFunction, PluginManager

from .settings import WorkerSettings
from .worker import Worker


@dataclass(frozen=True, slots=True)
class Embedded:
    """What `embedded` gives."""

    client: Client
    manager: PluginManager


@asynccontextmanager
async def embedded(
    plugins: Path | str,
    *,
    policy: Policy | None = None,
    timeout_s: float = 30.0,
    host_functions: Iterable[EmbedderFunction[..., Any]] = (),
    secrets: Iterable[Path | str] = (),
) -> AsyncIterator[Embedded]:
    """Load the plugins under a folder and serve them until the block ends. Raises `PluginError` for a bad folder.

    They can call `host_functions`, besides Warren's own, and their settings may name files of the folders `secrets`.
    """
    url = f"memory://{new_message_id()}"
    settings = WorkerSettings(Path(plugins), url, grace_s=0.0, record=frozenset({"dead-letters", "callers"}))
    transport = await connect(url)
    try:
        async with (
            PluginManager(settings.plugins, policy=policy, host_functions=host_functions, secrets=secrets) as manager,
            Client(url, timeout_s=timeout_s) as client,
        ):
            worker = Worker(transport, manager, settings)
            await worker.start()
            try:
                yield Embedded(client, manager)
            finally:
                await worker.drain()
    finally:
        await transport.close()
