"""`warren dead`: from a plugin that traps to its second run, on the memory bus and with a real RabbitMQ."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pty
import secrets
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pika
import pytest

from tests.broker import Broker
from tests.conformance.inbox import PATIENCE_S, Inbox
from tests.guests import wat, write_plugin
from tests.workers.cli.commands import COMMAND, NO_BROKER, Ended, warren
from warren.bus import (
    Client,
    DeadQueue,
    Header,
    Message,
    Names,
    OutcomeKind,
    Transport,
    base_topology,
    connect,
    dead_letter_message,
    mailbox_topology,
    read_dead_letter,
    request_message,
)
from warren.plugins import PluginManager
from warren.workers.cli.dead_view import line, page, page_data
from warren.workers.cli.dead_work import Tally, choice, list_letters, settle_letters, show_letters
from warren.workers.cli.exit_codes import ExitCode
from warren.workers.cli.json_data import json_text
from warren.workers.settings import WorkerSettings
from warren.workers.worker import Worker

TRAPS = wat("unreachable")

#: Words that would colour a terminal, end a line, or be markup.
HOSTILE = "\x1b[31m\x9b2J\r\n[bold]\u202e"


def letter(names: Names, message: Message, *, plugin: str = "plain", outcome: str = "trap") -> Message:
    return dead_letter_message(
        names, message, plugin=plugin, outcome=OutcomeKind(outcome), error="unreachable", attempt=1, worker="w"
    )


async def publish(transport: Transport, *messages: Message) -> None:
    await asyncio.gather(*(transport.publish(message, mandatory=True) for message in messages))


async def until_depth(transport: Transport, queue: str, depth: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await transport.depth(queue) == depth:
                return
            await asyncio.sleep(0.02)


# What needs no broker.


@pytest.mark.parametrize(
    ("arguments", "complaint", "hint"),
    [
        (["replay"], "which dead letters?", "--all"),
        (["discard"], "which dead letters?", "--plugin"),
        (["replay", "a", "--all"], "give one of them", ""),
        (["discard", "", "--yes"], "an id is empty", "warren dead list"),
        (["discard", "--all"], "no terminal to ask at", "--yes"),
        (["list", "--older-than", "soon"], "'soon' is no age", "warren dead list --help"),
        (["replay", "--outcome", "tarp"], "'tarp' is no outcome; there are ok, failed, trap", "warren dead replay"),
        (["show"], "Missing argument 'ID'", "warren dead show --help"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], complaint: str, hint: str) -> None:
    ended = warren("dead", *arguments, "--broker", NO_BROKER)
    assert ended.code == ExitCode.USAGE
    assert complaint in ended.err
    assert hint in ended.err


@pytest.mark.parametrize("command", ["list", "show", "replay", "discard"])
def test_every_command_has_help_and_json(command: str) -> None:
    helped = warren("dead", command, "--help")
    assert helped.code == ExitCode.OK
    assert "--json" in helped.out


def test_a_broker_that_cannot_be_reached_ends_with_4() -> None:
    assert warren("dead", "list", "--broker", NO_BROKER).code == ExitCode.UNREACHABLE


@pytest.mark.parametrize(
    "message",
    [
        Message(b"\xff\xfe\x00", "test.dead", "test.dead", content_type=None),
        Message(b'{"a": NaN}' + HOSTILE.encode(), message_id=HOSTILE, correlation_id=HOSTILE, type=HOSTILE),
        Message(
            b'{"a":"\\u001b"}', headers={HOSTILE: HOSTILE, "bytes": b"\xff", "nested": [{"a": b"\xfe"}, None, 1.5]}
        ),
        Message(b"[" * 5_000, headers={"large": "x" * 120_000}, timestamp_s=2**62),
        Message(b"", headers={Header.WORKER: HOSTILE, Header.OUTCOME: HOSTILE, Header.ERROR: HOSTILE * 100}),
        Message(b"", headers={Header.WORKER: "w", Header.PLUGIN: HOSTILE, Header.DIED: 2**63}),
        Message(b"", headers={"x-death": [{"reason": HOSTILE, "queue": 7, "time": -1, "routing-keys": []}]}),
    ],
)
def test_whatever_is_in_the_queue_is_shown_and_cannot_act_on_the_terminal(message: Message) -> None:
    hostile = read_dead_letter(Names("test"), message)
    assert line(hostile).plain.isprintable()
    assert all(each.isprintable() for each in page(hostile).plain.split("\n"))
    assert json_text(page_data(hostile)).isprintable()


def test_a_body_that_is_no_json_is_in_the_json_byte_for_byte() -> None:
    data = page_data(read_dead_letter(Names("test"), Message(b"\xff\x00")))
    assert base64.b64decode(data["body_base64"]) == b"\xff\x00"


def test_a_summary_says_how_many_and_why_not() -> None:
    tally = Tally("replayed", meant=1_002, settled=1_000)
    tally.stay["no queue takes messages for 'x'"] = 2
    assert str(tally) == "replayed 1,000 of 1,002; 2 stay: no queue takes messages for 'x'"


async def test_a_plugin_that_trapped_is_mended_and_what_it_trapped_on_is_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The round trip on the memory bus: the commands' own parts, around one worker and the next."""
    url, names = f"memory://{secrets.token_hex(6)}", Names()
    transport = await connect(url)
    settings = WorkerSettings(tmp_path, url, grace_s=PATIENCE_S)

    async def serve_one() -> tuple[str, str | None]:
        """Have a worker of its own answer one request; its outcome, and the id that the result is correlated with."""
        async with (
            PluginManager(tmp_path) as manager,
            Client(transport=transport) as client,
            client.results() as results,
        ):
            worker = Worker(transport, manager, settings)
            await worker.start()
            result = await asyncio.wait_for(anext(results), PATIENCE_S)
            await worker.drain()
            return result.outcome, result.correlation_id

    write_plugin(tmp_path, "plain", TRAPS)
    await transport.declare(base_topology(names) + mailbox_topology(names, "plain"))
    await publish(transport, request_message(names, "plain", "go", {"n": 1}, message_id="request-1"))
    assert await serve_one() == ("trap", "request-1")
    async with DeadQueue(transport, names) as queue:
        await list_letters(queue, choice(), None, as_json=True)
        listed = json.loads(capsys.readouterr().out)
    assert (listed["id"], listed["plugin"], listed["action"], listed["outcome"]) == (
        "request-1",
        "plain",
        "go",
        "trap",
    )
    async with DeadQueue(transport, names) as queue:
        await show_letters(queue, choice(["request"]), as_json=False)
        assert '"n": 1' in capsys.readouterr().out
    write_plugin(tmp_path, "plain")
    tally = Tally("replayed")
    async with DeadQueue(transport, names) as queue:
        await settle_letters(queue, choice(["request-1"]), DeadQueue.replay, tally)
    assert str(tally) == "replayed 1 of 1"
    assert await serve_one() == ("ok", "request-1")
    assert await transport.depth(names.dead) == 0
    await transport.close()


# What needs one.


class Graveyard:
    """An installation on a real broker, and the commands on it as processes."""

    def __init__(self, transport: Transport, broker: Broker, prefix: str) -> None:
        self.transport = transport
        self.broker = broker
        self.names = Names(prefix)
        self.environment = os.environ | {"WARREN_BROKER": broker.url, "WARREN_PREFIX": prefix}

    async def start(self, *arguments: str, terminal: int | None = None) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *COMMAND,
            "dead",
            *arguments,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL if terminal is None else terminal,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE if terminal is None else terminal,
        )

    async def run(self, *arguments: str) -> Ended:
        process = await self.start(*arguments)
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S * 3)
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())

    async def listed(self, *options: str) -> list[dict[str, Any]]:
        ended = await self.run("list", "--json", *options)
        assert ended.code == ExitCode.OK
        return [json.loads(each) for each in ended.out.splitlines()]

    async def bury(self, *ids: str, key: str = "plain.go", **options: str) -> None:
        body = b'{"action":"go","data":1}'
        originals = (Message(body, self.names.requests, key, message_id=one) for one in ids)
        await publish(self.transport, *(letter(self.names, original, **options) for original in originals))

    async def dead(self, count: int) -> None:
        """Return when so many letters wait."""
        await until_depth(self.transport, self.names.dead, count)


@pytest.fixture
async def graveyard(broker: Broker, prefix: str) -> AsyncIterator[Graveyard]:
    transport = await connect(broker.url)
    names = Names(prefix)
    await transport.declare(base_topology(names) + mailbox_topology(names, "plain", delivery_limit=1))
    yield Graveyard(transport, broker, prefix)
    await transport.close()


@pytest.mark.broker
async def test_the_round_trip_through_a_real_broker(graveyard: Graveyard, tmp_path: Path) -> None:
    url, names = graveyard.broker.url, graveyard.names
    settings = WorkerSettings(tmp_path, url, prefix=names.prefix, grace_s=PATIENCE_S)

    async def serve(request: bool) -> str:  # noqa: FBT001
        async with (
            PluginManager(tmp_path) as manager,
            Client(url, prefix=names.prefix, timeout_s=PATIENCE_S) as client,
            client.results() as results,
        ):
            transport = await connect(url)
            worker = Worker(transport, manager, settings)
            await worker.start()
            if request:
                outcome = (await client.call("plain", "go", {"n": 1}, version="^1")).outcome
            else:
                outcome = (await asyncio.wait_for(anext(results), PATIENCE_S)).outcome
            await worker.drain()
            await transport.close()
            return str(outcome)

    write_plugin(tmp_path, "plain", TRAPS)
    await graveyard.transport.close()
    graveyard.transport = await connect(url)
    settings = replace(settings, delivery_limit=1)
    assert await serve(request=True) == "trap"
    await graveyard.dead(1)
    (listed,) = await graveyard.listed()
    assert (listed["outcome"], listed["exchange"], listed["routing_key"]) == ("trap", names.requests, "plain.go")
    shown = await graveyard.run("show", listed["id"][:13])
    assert f"to replay it: warren dead replay {listed['id']}" in shown.out
    assert "that caller has stopped waiting" in shown.out
    write_plugin(tmp_path, "plain")
    replayed = await graveyard.run("replay", "--plugin", "plain", "--outcome", "trap", "--newer-than", "1h")
    assert (replayed.code, replayed.out, replayed.err) == (ExitCode.OK, "replayed 1 of 1\n", "")
    assert await serve(request=False) == "ok"
    assert await graveyard.listed() == []


@pytest.mark.broker
async def test_what_the_broker_gave_up_is_listed_with_its_reason_and_replayed(graveyard: Graveyard) -> None:
    names, mailbox = graveyard.names, graveyard.names.mailbox("plain")
    await publish(graveyard.transport, request_message(names, "plain", "go", None, message_id="poison"))
    for _ in range(2):  # as workers that it kills
        killed = await connect(graveyard.broker.url)
        await (await Inbox.of(killed, mailbox)).next()
        await killed.close()
    await publish(graveyard.transport, request_message(names, "plain", "go", None, message_id="late", expiration_ms=1))
    await graveyard.dead(2)
    listed = await graveyard.listed()
    assert [(each["id"], each["plugin"], each["action"], each["outcome"]) for each in listed] == [
        ("poison", "plain", "go", "delivery_limit"),
        ("late", "plain", "go", "expired"),
    ]
    assert all(each["died"] for each in listed)
    assert (await graveyard.run("replay", "--outcome", "expired")).out == "replayed 1 of 1\n"
    assert (await graveyard.run("replay", "poi")).out == "replayed 1 of 1\n"
    inbox = await Inbox.of(graveyard.transport, mailbox)
    for message_id in ("late", "poison"):
        again = (await inbox.next()).message
        assert (again.message_id, again.exchange, again.routing_key) == (message_id, names.requests, "plain.go")
        assert not [name for name in again.headers if "death" in name or name.startswith("warren-")]
    await graveyard.dead(0)


@pytest.mark.broker
async def test_a_thousand_are_replayed_by_one_command_and_what_nobody_takes_stays(graveyard: Graveyard) -> None:
    await graveyard.bury(*(f"r{number}" for number in range(1_000)))
    nobodys = Message(b"1", graveyard.names.events, "nobody.listens")
    await publish(graveyard.transport, *(letter(graveyard.names, replace(nobodys, message_id=one)) for one in "ab"))
    began = time.monotonic()
    replayed = await graveyard.run("replay", "--all")
    assert time.monotonic() - began < PATIENCE_S
    assert replayed.code == ExitCode.FAILED
    stay = f"no queue takes messages for exchange '{graveyard.names.events}' with key 'nobody.listens'"
    assert replayed.out == f"replayed 1,000 of 1,002; 2 stay: {stay}\n"
    await graveyard.dead(2)
    await until_depth(graveyard.transport, graveyard.names.mailbox("plain"), 1_000)
    said = await graveyard.run("replay", "--all", "--json")
    assert said.json == {"replayed": 0, "of": 2, "stay": {stay: 2}}


@pytest.mark.broker
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
async def test_a_replay_that_is_ended_midway_loses_nothing_and_repeats_only_what_has_the_same_id(
    graveyard: Graveyard, end: signal.Signals
) -> None:
    ids = {f"r{number}" for number in range(3_000)}
    await graveyard.bury(*ids)
    process = await graveyard.start("replay", "--all")
    mailbox = graveyard.names.mailbox("plain")
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await graveyard.transport.depth(mailbox) > 100:
                break
            await asyncio.sleep(0)
    process.send_signal(end)
    said, _ = await process.communicate()
    if end is signal.SIGINT:
        assert process.returncode == ExitCode.INTERRUPTED
        assert said.startswith(b"replayed ")
    replayed = await graveyard.run("replay", "--all")
    assert replayed.code == ExitCode.OK
    await graveyard.dead(0)
    count = await graveyard.transport.depth(mailbox)
    inbox = await Inbox.of(graveyard.transport, mailbox, prefetch=10_000)
    again = {(await inbox.next()).message.message_id for _ in range(count)}
    assert again == ids


@pytest.mark.broker
async def test_letters_are_chosen_by_plugin_outcome_age_and_id(graveyard: Graveyard) -> None:
    await graveyard.bury("aa1", "aa2", plugin="plain")
    await graveyard.bury("b", plugin="other", outcome="rejected")

    async def ids(*options: str) -> list[str]:
        return [each["id"] for each in await graveyard.listed(*options)]

    assert await ids() == ["aa1", "aa2", "b"]
    assert await ids("--limit", "2") == ["aa1", "aa2"]
    assert await ids("--plugin", "other") == ["b"]
    assert await ids("--outcome", "trap", "--outcome", "denied") == ["aa1", "aa2"]
    assert await ids("--older-than", "1h") == []
    assert await ids("--newer-than", "1h", "--plugin", "plain") == ["aa1", "aa2"]
    ambiguous = await graveyard.run("discard", "aa", "--yes")
    assert (ambiguous.code, ambiguous.out) == (ExitCode.USAGE, "")
    assert ambiguous.err == "error: 'aa' is how several ids begin: aa1, aa2\ngive more of it\n"
    missing = await graveyard.run("show", "zz")
    assert (missing.code, missing.err.splitlines()[0]) == (ExitCode.USAGE, "error: there is no dead letter 'zz'")
    assert (await graveyard.run("discard", "aa1", "b", "--yes")).out == "discarded 2 of 2\n"
    assert await ids() == ["aa2"]


@pytest.mark.broker
async def test_letters_of_one_message_are_settled_together_and_those_without_id_have_one(graveyard: Graveyard) -> None:
    await graveyard.bury("twin", "twin")
    connection = pika.BlockingConnection(pika.URLParameters(graveyard.broker.url))
    for body in (b"\xff\x00", HOSTILE.encode()):
        unreadable: Any = b"\xc3("
        properties = pika.BasicProperties(headers={"large": "x" * 100_000}, type=unreadable)
        connection.channel().basic_publish(graveyard.names.dead, "\x1b[2J", body, properties)
    connection.close()
    await graveyard.dead(4)
    table = await graveyard.run("list")
    assert (table.code, table.err) == (ExitCode.OK, "4 of 4 dead letters\n")
    assert all(each.isprintable() for each in table.out.splitlines())
    nameless = [each["id"] for each in await graveyard.listed("--outcome", "unknown")]
    assert len({*nameless}) == 2
    for one in nameless:
        shown = await graveyard.run("show", one)
        assert shown.code == ExitCode.OK
        assert all(each.isprintable() for each in shown.out.split("\n"))
        refused = await graveyard.run("replay", one)
        assert (
            refused.out
            == "replayed 0 of 1; 1 stays: nothing in it that can be believed tells where it was published first\n"
        )
    assert (await graveyard.run("discard", "tw", "--yes")).out == "discarded 2 of 2\n"
    await graveyard.dead(2)


@pytest.mark.broker
async def test_a_queue_that_is_not_there_is_wrong_usage(graveyard: Graveyard) -> None:
    ended = await graveyard.run("list", "--prefix", "nobodys")
    assert ended.code == ExitCode.USAGE
    assert ended.err.startswith("error: there is no queue 'nobodys.dead' on the broker\n")


@pytest.mark.broker
@pytest.mark.parametrize(("answer", "left", "code"), [(b"y\n", 0, ExitCode.OK), (b"n\n", 1, ExitCode.FAILED)])
async def test_at_a_terminal_discarding_asks_first_and_progress_is_shown(
    graveyard: Graveyard, answer: bytes, left: int, code: ExitCode
) -> None:
    await graveyard.bury("one")
    ours, theirs = pty.openpty()
    process = await graveyard.start("discard", "--all", terminal=theirs)
    os.close(theirs)
    os.write(ours, answer)
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S * 3)
    shown = os.read(ours, 65_536).decode()
    os.close(ours)
    assert process.returncode == code
    assert "Discard for good all 1 dead letters? [y/N]" in shown
    assert ("dead letters" in shown.partition("[y/N]")[2]) is (left == 0)
    assert out.decode() == ("" if left else "discarded 1 of 1\n")
    await graveyard.dead(left)
