"""What a worker does with its audit: counters, log and bus; and that no request feels it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import LIMIT_S, until
from tests.guests import ask, calling, needing, wat, write_plugin
from warren.bus import (
    AuditNote,
    BusError,
    Client,
    MalformedMessage,
    MemoryTransport,
    Message,
    Names,
    OutcomeKind,
    PublishRefused,
    Transport,
    connect,
    read_audit,
)
from warren.manifests import Policy
from warren.plugins import AuditEvent, PluginManager, host_function
from warren.workers.audit import LINES_PER_S, MAX_UNCONFIRMED
from warren.workers.cli.logs import configure_logging
from warren.workers.metrics import AUDIT_DROPPED, REFUSALS
from warren.workers.settings import WorkerSettings
from warren.workers.worker import Worker

ONLINE = '[capabilities]\nrequired = ["network"]\n'
EVERYWHERE = frozenset({"logs", "exchange"})


@host_function(needs="network")
def fetch() -> None: ...


def sending(topic: str) -> bytes:
    body, segment = ask("send_message", json.dumps({"topic": topic}))
    return wat(f"(drop {body}) (call $answer)", more=segment)


def fetching() -> bytes:
    body, segment = ask("fetch")
    return wat(f"(drop {body}) (call $answer)", more=segment)


@asynccontextmanager
async def serving(
    plugins: Path, audit: frozenset[str] = EVERYWHERE, *, through: type[MemoryTransport] | None = None, **settings: Any
) -> AsyncIterator[tuple[Client, Worker]]:
    url = f"memory://{plugins.name}-{id(plugins)}"
    transport: Transport = await connect(url)
    if through is not None:
        assert isinstance(transport, MemoryTransport)
        transport.__class__ = through
    policy = Policy(frozenset({"network"}))
    async with (
        PluginManager(plugins, policy=policy, host_functions=[fetch]) as manager,
        Client(url, timeout_s=LIMIT_S) as client,
    ):
        assert not manager.failures
        worker = Worker(transport, manager, WorkerSettings(plugins, url, grace_s=LIMIT_S, audit=audit, **settings))
        await worker.start()
        yield client, worker
        await worker.drain()
    await transport.close()


def refusals(worker: Worker) -> dict[tuple[str, ...], Any]:
    return {labels: count for labels, count in worker.metrics.snapshot()[REFUSALS.name].items() if count}


async def test_a_refusal_is_counted_logged_and_published_with_all_there_is_to_know(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_plugin(tmp_path, "mole", sending("secret.x"), version="1.2.3")
    async with serving(tmp_path) as (client, worker), client.audit("mole.publish.warning") as heard:
        result = await client.call("mole", "do")
        assert result.outcome is OutcomeKind.DENIED
        note = await anext(heard)
    assert refusals(worker) == {("mole", "publish"): 1}
    assert (note.plugin, note.version, note.power, note.asked) == ("mole", "1.2.3", "publish", "secret.x")
    assert note.worker == worker.name
    assert note.request_id == result.correlation_id
    assert result.trace is not None
    assert note.trace_id == result.trace.trace_id
    [line] = [record for record in caplog.records if record.name == "warren.audit"]
    assert line.levelname == "WARNING"
    assert line.getMessage() == (
        "mole 1.2.3 was refused publish: secret.x: the plugin may not publish on 'secret.x': "
        f"no pattern in its [bus] publish [request {result.correlation_id}]"
    )
    assert AuditNote.model_validate_json(json.dumps(line.__dict__["audit"])) == note


async def test_a_use_is_published_and_logged_where_debug_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "warren.audit")
    write_plugin(tmp_path, "mole", fetching(), ONLINE)
    async with serving(tmp_path) as (client, worker), client.audit("#.debug") as heard:
        assert (await client.call("mole", "do")).ok
        assert (await anext(heard)).refusal is None
        assert "used network" not in caplog.text
        caplog.set_level(logging.DEBUG, "warren.audit")
        assert (await client.call("mole", "do")).ok
    assert "mole 1.0.0 used network: fetch" in caplog.text
    assert refusals(worker) == {}


async def test_what_a_called_plugin_did_has_its_own_version_and_the_requests_id(tmp_path: Path) -> None:
    write_plugin(tmp_path, "mole", fetching(), ONLINE, version="3.0.0")
    write_plugin(tmp_path, "badger", calling("mole"), needing("mole"))
    async with serving(tmp_path) as (client, _), client.audit("mole.#") as heard:
        result = await client.call("badger", "do")
        note = await anext(heard)
    assert (note.plugin, note.version, note.request_id) == ("mole", "3.0.0", result.correlation_id)
    assert result.trace is not None
    assert note.trace_id == result.trace.trace_id


async def test_a_loop_is_told_of_the_plugin_it_came_to(tmp_path: Path) -> None:
    write_plugin(tmp_path, "mole")
    async with serving(tmp_path, hop_limit=3) as (client, worker), client.audit("mole.hops.*") as heard:
        assert (await client.call("mole", "do", hops=4)).outcome is OutcomeKind.REJECTED
        note = await anext(heard)
    assert (note.asked, note.refusal) == ("4 plugins", "the message came through 4 plugins; more than 3 is a loop")
    assert refusals(worker) == {("mole", "hops"): 1}


async def test_a_range_outside_the_memory_is_logged_as_critical(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_plugin(tmp_path, "mole", wat("(call $pack (i32.const -1) (i32.const 5))"))
    async with serving(tmp_path) as (client, _):
        await client.call("mole", "do")
    assert [one.levelname for one in caplog.records if one.name == "warren.audit"] == ["CRITICAL"]


async def test_what_a_guest_says_cannot_break_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    evil = "x\x1b[31m\nroot: all is well\u202e"

    write_plugin(tmp_path, "mole")
    try:
        async with serving(tmp_path) as (_, worker):
            for as_json in (False, True):
                configure_logging("info", as_json=as_json)
                worker._audit.note("mole", "1.0.0", AuditEvent("warning", "read_files", evil, evil, 0), evil, None)
    finally:
        root.handlers[:], root.level = handlers, level
    plain, as_object = [line for line in capsys.readouterr().err.splitlines() if "read_files" in line]
    assert plain.isprintable()
    assert as_object.isprintable()
    told = json.loads(as_object)
    assert told["logger"] == "warren.audit"
    assert told["audit"]["power"] == "read_files"
    assert told["audit"]["asked"].isprintable()


async def test_a_flood_of_one_plugin_is_cut_short_in_the_log_and_hides_nobody_elses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warren.workers.audit.time.monotonic", lambda: 5.5)
    write_plugin(tmp_path, "mole", sending("secret.x"))
    write_plugin(tmp_path, "badger", sending("secret.y"))
    async with serving(tmp_path, frozenset({"logs"})) as (client, worker):
        await asyncio.gather(*(client.call("mole", "do") for _ in range(LINES_PER_S + 30)))
        await client.call("badger", "do")
        monkeypatch.setattr("warren.workers.audit.time.monotonic", lambda: 6.5)
        await client.call("mole", "do")
    lines = [record.getMessage() for record in caplog.records if record.name == "warren.audit"]
    assert len(lines) == LINES_PER_S + 2
    assert lines[-2].startswith("badger 1.0.0 was refused")
    assert lines[-1].endswith("(and 30 events before it)")
    assert refusals(worker) == {("mole", "publish"): LINES_PER_S + 31, ("badger", "publish"): 1}


class Silent(MemoryTransport):
    """A broker that confirms no audit event."""

    def post(self, message: Message, **options: Any) -> asyncio.Future[None]:
        if message.exchange == Names().audit:
            return asyncio.get_running_loop().create_future()
        return super().post(message, **options)


class Refusing(MemoryTransport):
    """One that may not be written to."""

    asked = 0

    def post(self, message: Message, **options: Any) -> asyncio.Future[None]:
        if message.exchange == Names().audit:
            type(self).asked += 1
            refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            refused.set_exception(PublishRefused(message.exchange, message.routing_key))
            return refused
        return super().post(message, **options)


class Closed(MemoryTransport):
    """One that is not there at all."""

    def post(self, message: Message, **options: Any) -> asyncio.Future[None]:
        if message.exchange == Names().audit:
            raise BusError("the broker is gone")
        return super().post(message, **options)


async def test_what_the_broker_does_not_confirm_is_bounded_counted_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_plugin(tmp_path, "mole", fetching(), ONLINE)
    async with serving(tmp_path, frozenset({"exchange"}), through=Silent) as (client, worker):
        results = await asyncio.gather(*(client.call("mole", "do") for _ in range(MAX_UNCONFIRMED + 10)))
        assert all(result.ok for result in results)
        assert worker.metrics.snapshot()[AUDIT_DROPPED.name] == {(): 10}
    assert caplog.text.count("an audit event was not published: 1,000 of them wait for the broker already") == 1


async def test_one_that_is_refused_is_told_and_no_more_are_tried_for_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_plugin(tmp_path, "mole", fetching(), ONLINE)
    Refusing.asked = 0
    async with serving(tmp_path, frozenset({"exchange"}), through=Refusing) as (client, worker):
        for _ in range(5):
            assert (await client.call("mole", "do")).ok
        await until(lambda: worker.metrics.audit_dropped == 5)
    assert Refusing.asked == 1
    assert "an audit event was not published: the broker refused" in caplog.text


async def test_a_transport_that_fails_at_once_costs_no_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_plugin(tmp_path, "mole", fetching(), ONLINE)
    async with serving(tmp_path, frozenset({"exchange"}), through=Closed) as (client, worker):
        assert (await client.call("mole", "do")).ok
    assert worker.metrics.audit_dropped == 1
    assert "an audit event was not published: the broker is gone" in caplog.text


async def test_without_sinks_refusals_are_counted_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_plugin(tmp_path, "mole", sending("secret.x"))
    async with serving(tmp_path, frozenset()) as (client, worker):
        await client.call("mole", "do")
    assert refusals(worker) == {("mole", "publish"): 1}
    assert not [record for record in caplog.records if record.name == "warren.audit"]


async def test_a_worker_that_has_drained_tells_no_more(tmp_path: Path) -> None:
    write_plugin(tmp_path, "mole", sending("secret.x"))
    async with serving(tmp_path) as (_, worker):
        await worker.drain()
        await worker._manager.find("mole").run(b"{}")
        assert refusals(worker) == {}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"plugin":1}', b"[]"])
def test_what_is_no_audit_event_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedMessage, match="not an audit event: "):
        read_audit(Message(body, Names().audit, "a.b.debug"))
