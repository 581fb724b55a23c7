"""Plugins that keep something, served by a worker: what a client sees, and what a storage that is away comes to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import until
from tests.guests import asking, write_plugin
from tests.plugins.storage.test_sqlite import locked
from tests.workers.cli.commands import EXAMPLES, NO_BROKER, warren_process
from warren.bus import Client, connect
from warren.manifests import Policy
from warren.plugins import PluginManager
from warren.workers.cli.exit_codes import ExitCode
from warren.workers.settings import WorkerSettings
from warren.workers.worker import Worker

LIMIT_S = 30.0

ASKS = """
[capabilities]
required = ["storage"]
[resources]
timeout_seconds = 1
[retry]
initial_delay_ms = 20
"""


@asynccontextmanager
async def serving(plugins: Path, storage: str) -> AsyncIterator[tuple[Client, Worker]]:
    url = f"memory://{plugins.name}-{id(plugins)}"
    policy = Policy(capabilities=frozenset({"storage"}))
    transport = await connect(url)
    async with (
        PluginManager(plugins, policy=policy, storage=storage) as manager,
        Client(url, timeout_s=LIMIT_S) as client,
    ):
        assert not manager.failures
        worker = Worker(transport, manager, WorkerSettings(plugins, url, grace_s=LIMIT_S))
        await worker.start()
        yield client, worker
        await worker.drain()
    await transport.close()


def write_versions(folder: Path) -> None:
    """One version that sets a key, and one that gets it."""
    for version, function, arguments in (
        ("1.0.0", "set", {"key": "a", "value": "kept"}),
        ("2.0.0", "get", {"key": "a"}),
    ):
        wasm = asking(f"storage_{function}", arguments)
        write_plugin(folder, "keeps", wasm, ASKS, version=version, stem=function)


async def call(client: Client, version: str) -> Any:
    return await client.call("keeps", "do", version=version)


async def test_what_one_request_keeps_a_later_one_finds_by_whichever_worker(tmp_path: Path) -> None:
    write_versions(tmp_path / "plugins")
    storage = f"sqlite://{tmp_path}/storage.db"
    async with serving(tmp_path / "plugins", storage) as (client, _):
        assert (await call(client, "^2")).result == {"ok": None}
        assert (await call(client, "^1")).result == {"ok": None}
    async with serving(tmp_path / "plugins", storage) as (client, _):
        assert (await call(client, "^2")).result == {"ok": {"value": "kept"}}


async def test_a_request_whose_storage_is_locked_is_tried_again_and_answered_when_it_is_free(tmp_path: Path) -> None:
    write_versions(tmp_path / "plugins")
    async with serving(tmp_path / "plugins", f"sqlite://{tmp_path}/storage.db") as (client, worker):
        with locked(tmp_path / "storage.db"):
            calling = asyncio.create_task(call(client, "^1"))
            await until(lambda: worker.metrics.snapshot()["warren_retries_total"].get(("keeps",), 0) != 0)
            assert not calling.done()
        result = await calling
        assert (result.outcome, result.result) == ("ok", {"ok": None})
        assert result.attempt > 1
        assert (await call(client, "^2")).result == {"ok": {"value": "kept"}}


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_worker_whose_storage_is_none_ends_with_a_sentence(*, by_variable: bool) -> None:
    options = () if by_variable else ("--storage", "postgres://host/db")
    environment = {"WARREN_STORAGE": "postgres://host/db"} if by_variable else {}
    ended = warren_process("worker", "--plugins", EXAMPLES, "--broker", NO_BROKER, *options, **environment)
    assert ended.code == ExitCode.USAGE
    assert "the URL of a storage is sqlite:///PATH, redis://HOST or rediss://HOST" in ended.err
