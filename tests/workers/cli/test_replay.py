"""`warren replay`: from a request that died in a worker, or a call that was recorded, to the same run once more."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.broker import Broker
from tests.conformance.inbox import PATIENCE_S
from tests.guests import ask, asking, log_answer, wat, write_plugin
from tests.workers.cli.commands import COMMAND, NO_BROKER, Ended, warren
from warren.bus import Client, DeadLetter, DeadQueue, Header, Names, connect, request_message
from warren.plugins import Plugin, PluginManager, host_function, read_recording, replay
from warren.workers.cli.dead_work import save_recording
from warren.workers.cli.exit_codes import ExitCode
from warren.workers.settings import WorkerSettings
from warren.workers.worker import Worker

#: Notes the time, and then does what it must not.
CALL, CALLED = ask("get_time")
DYING = {
    "trap": wat(f"(drop {CALL}) unreachable", more=CALLED),
    "out_of_fuel": wat(f"(drop {CALL}) (loop $on (br $on)) unreachable", more=CALLED),
    "wrong_answer": asking("get_time"),
}
MANIFESTS = {"wrong_answer": '[actions.do]\nresponse = {type = "string"}\n'}


@host_function()
def secret_page() -> str:
    return "of the intranet"


def write_dying(folder: Path) -> None:
    for name, wasm in DYING.items():
        write_plugin(folder, name, wasm, MANIFESTS.get(name, ""))


def record(folder: Path, wasm: bytes, manifest: str = "") -> Path:
    """Have the command record one call, and give the file."""
    write_plugin(folder, "guest", wasm, manifest)
    file = folder / "recording.json"
    ended = warren("call", "guest", "do", '{"n": 1}', "--plugins", folder, "--record", file)
    assert f"to see it happen again: warren replay {file}" in ended.err.replace("\n", "")
    return file


# What needs no broker.


def test_a_call_is_recorded_and_replayed(tmp_path: Path) -> None:
    file = record(tmp_path, wat(log_answer(CALL), more=CALLED))
    replayed = warren("replay", file, "--plugins", tmp_path)
    assert replayed.code == ExitCode.OK
    assert "guest 1.0.0 ended as ok, recorded " in replayed.out
    assert '  1  get_time → {"ok":{"timestamp":' in replayed.out
    assert 'info  {"ok":{"timestamp":' in replayed.out
    assert "reproduced, with 1 answer from outside and " in replayed.out
    assert "note" not in replayed.out


def test_a_trap_is_replayed_with_its_backtrace(tmp_path: Path) -> None:
    replayed = warren("replay", record(tmp_path, DYING["trap"]), "--plugins", tmp_path, "--json")
    assert replayed.code == ExitCode.OK
    assert replayed.json["verdict"] == "reproduced"
    assert replayed.json["now"]["error"] == "the guest aborted (unreachable)"
    assert replayed.json["recorded"]["fuel"] == replayed.json["now"]["fuel"]
    assert replayed.json["backtrace"]


def test_another_version_is_shown_where_it_first_does_something_else(tmp_path: Path) -> None:
    file = record(tmp_path, asking("storage_get", {"key": "a", "more": [1, 2]}))
    write_plugin(tmp_path, "guest", asking("storage_get", {"key": "b", "more": [1]}), version="1.1.0", stem="newer")
    replayed = warren("replay", file, "--plugins", tmp_path, "--version", "1.1.0")
    assert replayed.code == ExitCode.FAILED
    assert "note: replayed in 1.1.0, under the limits that were recorded" in replayed.out
    assert "it differs after 0 of 1 answers from outside" in replayed.out
    assert 'recorded  storage_get {"key": "a", "more": [1, 2]}' in replayed.out
    assert 'now       storage_get {"key": "b", "more": [1]}' in replayed.out
    assert '.key: "a", now "b"' in replayed.out
    assert ".more: 2 items, now 1" in replayed.out
    told = warren("replay", file, "--plugins", tmp_path, "--version", "1.1.0", "--json").json["difference"]
    assert told["after"] == 0
    assert told["now"] == {"asked": "host_call", "name": "storage_get", "with": '{"key": "b", "more": [1]}'}


def test_a_mended_version_is_shown_to_end_otherwise(tmp_path: Path) -> None:
    file = record(tmp_path, DYING["trap"])
    write_plugin(tmp_path, "guest", wat(f"(drop {CALL}) (call $answer)", more=CALLED))
    replayed = warren("replay", file, "--plugins", tmp_path)
    assert replayed.code == ExitCode.FAILED
    assert "these are not the files that were recorded, though they are 1.0.0, too" in replayed.out
    assert "recorded  the end: trap: the guest aborted (unreachable)" in replayed.out
    assert "now       the end: ok: " in replayed.out


def test_what_a_guest_was_told_last_is_listed(tmp_path: Path) -> None:
    call, called = ask("storage_set", json.dumps({"key": "x" * 200}), at=2048)
    file = record(tmp_path, wat(f"{f'(drop {CALL})' * 25} (drop {call}) (call $answer)", more=CALLED + called))
    replayed = warren("replay", file, "--plugins", tmp_path).out.splitlines()
    assert replayed[1] == "  …  6 before these"
    assert replayed[2].startswith("  7  get_time → ")
    assert replayed[21].startswith(' 26  storage_set {"key": "xxx')
    assert replayed[21].endswith("…")


def test_a_recording_that_was_cut_short_is_replayed_as_far_as_it_goes(tmp_path: Path) -> None:
    file = record(tmp_path, wat(f"(drop {CALL}) (drop {CALL}) (call $answer)", more=CALLED))
    value = json.loads(file.read_bytes())
    file.write_text(json.dumps(value | {"events": value["events"][:1], "cut": "no room"}))
    replayed = warren("replay", file, "--plugins", tmp_path)
    assert replayed.code == ExitCode.BAD_OUTCOME
    assert "as recorded for 1 answer from outside" in replayed.out
    assert "the recording ends there: no room" in replayed.out


def test_what_hostile_recordings_hold_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    file = record(tmp_path, asking("storage_get", {"key": "a"}))
    value = json.loads(file.read_bytes())
    hostile = "\x1b[2J\u202e"
    value["events"][0] |= {"name": hostile, "asked": {"text": json.dumps({hostile: hostile}) + hostile}}
    value["outcome"] |= {"error": hostile}
    value["wasmtime"] = hostile
    file.write_text(json.dumps(value))
    for options in ((), ("--json",)):
        replayed = warren("replay", file, "--plugins", tmp_path, *options)
        assert replayed.code == ExitCode.FAILED
        assert all(line.isprintable() for line in replayed.out.split("\n"))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"format": "warren.recording", "format_version": 7}', "is a recording of format version 7"),
        (b'{"format": "warren.recording", "format_version": 1}', "is a damaged recording: at 'recorded'"),
    ],
)
def test_a_file_that_is_no_recording_is_wrong_usage(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "recording.json"
    file.write_bytes(content)
    ended = warren("replay", file, "--plugins", tmp_path)
    assert ended.code == ExitCode.USAGE
    assert complaint in ended.err


def test_a_plugin_or_version_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    file = record(tmp_path, wat())
    absent = warren("replay", file, "--plugins", tmp_path, "--version", "9.9.9")
    assert (absent.code, "there is no guest 9.9.9 to replay it in; of guest there is 1.0.0" in absent.err) == (2, True)
    (tmp_path / "empty").mkdir()
    nothing = warren("replay", file, "--plugins", tmp_path / "empty")
    assert (nothing.code, "nor any other version" in nothing.err) == (2, True)
    unset = warren("replay", file, "--plugins", tmp_path, "--env", "NAME")
    assert (unset.code, "--env NAME=VALUE" in unset.err) == (2, True)


def test_help_tells_the_two_replays_apart() -> None:
    assert "warren dead show ID" in warren("replay", "--help").out
    assert "and warren replay FILE." in " ".join(warren("dead", "replay", "--help").out.split())
    assert warren("dead", "show", "x", "--broker", NO_BROKER, "--recording", "x").code == ExitCode.UNREACHABLE


async def serve_on_memory(folder: Path, ask_for: Callable[[Client], Awaitable[object]]) -> DeadLetter:
    """The dead letter of what is asked for, on a bus of its own."""
    url, names = f"memory://{secrets.token_hex(6)}", Names()
    transport = await connect(url)
    async with (
        PluginManager(folder) as manager,
        Client(transport=transport, timeout_s=PATIENCE_S) as client,
        client.results() as results,
    ):
        worker = Worker(transport, manager, WorkerSettings(folder, url, grace_s=PATIENCE_S))
        await worker.start()
        await ask_for(client)
        await asyncio.wait_for(anext(results), PATIENCE_S)
        await worker.drain()
    async with DeadQueue(transport, names) as queue:
        letters = [held.letter async for held in queue.letters()]
    await transport.close()
    (letter,) = letters
    return letter


async def test_a_message_that_a_plugin_died_of_is_replayed_as_it_was_given_to_it(tmp_path: Path) -> None:
    write_plugin(tmp_path, "trap", DYING["trap"])
    letter = await serve_on_memory(tmp_path, lambda client: client.send("trap", "a.topic", {"n": 1}))
    file = tmp_path / "recording.json"
    save_recording(letter, file)
    recording = read_recording(file.read_bytes())
    assert recording.request is not None
    request = json.loads(recording.request.text)
    assert request["action"] == "on_message"
    assert request["data"]["payload"] == {"n": 1}
    assert (await replay(recording, tmp_path)).difference is None


async def test_a_run_that_cannot_be_recorded_leaves_its_letter_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(*_arguments: object) -> None:
        raise RuntimeError("a defect")

    write_plugin(tmp_path, "trap", DYING["trap"])
    monkeypatch.setattr(Plugin, "recording", breaks)
    letter = await serve_on_memory(tmp_path, lambda client: client.send("trap", "a.topic"))
    assert (letter.outcome, letter.recording) == ("trap", None)
    assert "a run of trap could not be recorded" in caplog.text


# What needs one.


class Installation:
    """One on a real broker, and a worker of its own for the time of a block."""

    def __init__(self, broker: Broker, prefix: str, folder: Path) -> None:
        self.url = broker.url
        self.names = Names(prefix)
        self.settings = WorkerSettings(folder, broker.url, prefix=prefix, grace_s=PATIENCE_S)
        self.environment = os.environ | {"WARREN_BROKER": broker.url, "WARREN_PREFIX": prefix}

    @asynccontextmanager
    async def serving(self, *record: str) -> AsyncIterator[Client]:
        transport = await connect(self.url)
        try:
            async with (
                PluginManager(self.settings.plugins, host_functions=[secret_page]) as manager,
                Client(self.url, prefix=self.names.prefix, timeout_s=PATIENCE_S) as client,
            ):
                worker = Worker(transport, manager, replace(self.settings, record=frozenset(record)))
                await worker.start()
                yield client
                await worker.drain()
        finally:
            await transport.close()

    async def letters(self, count: int) -> list[DeadLetter]:
        transport = await connect(self.url)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    if await transport.depth(self.names.dead) >= count:
                        break
                    await asyncio.sleep(0.02)
            async with DeadQueue(transport, self.names) as queue:
                return [held.letter async for held in queue.letters()]
        finally:
            await transport.close()

    async def run(self, *arguments: str | Path) -> Ended:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *map(str, arguments),
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S * 3)
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())


@pytest.fixture
def installation(broker: Broker, prefix: str, tmp_path: Path) -> Installation:
    return Installation(broker, prefix, tmp_path / "plugins")


@pytest.mark.broker
async def test_what_died_on_a_real_broker_dies_again_from_its_dead_letter(
    installation: Installation, tmp_path: Path
) -> None:
    plugins = installation.settings.plugins
    write_dying(plugins)
    async with installation.serving("dead-letters") as client:
        ended = {name: (await client.call(name, "do", {"n": 1})) for name in DYING}
    assert [str(result.outcome) for result in ended.values()] == ["trap", "out_of_fuel", "trap"]
    assert all(result.recording is None for result in ended.values())
    letters = await installation.letters(len(DYING))
    assert {letter.plugin for letter in letters} == DYING.keys()
    for letter in letters:
        file = tmp_path / f"{letter.plugin}.json"
        shown = await installation.run("dead", "show", letter.id, "--recording", file)
        assert shown.code == ExitCode.OK, shown.err
        assert f"warren dead show {letter.id} --recording FILE; warren replay FILE" in shown.out
        assert Header.RECORDING not in shown.out
        replayed = await replay(read_recording(file.read_bytes()), plugins)
        assert (replayed.difference, replayed.cut_short, replayed.told) == (None, None, 1)
        assert replayed.outcome.fuel == ended[letter.plugin].fuel
        assert replayed.outcome.error == ended[letter.plugin].error
    write_plugin(plugins, "trap", wat(f"(drop {CALL}) (call $answer)", more=CALLED), version="1.0.1", stem="mended")
    newer = ("--plugins", plugins, "--version", "1.0.1")
    mended = await installation.run("replay", tmp_path / "trap.json", *newer)
    assert mended.code == ExitCode.FAILED
    assert "now       the end: ok" in mended.out


@pytest.mark.broker
async def test_a_letter_that_is_replayed_to_the_broker_leaves_its_recording_behind(
    installation: Installation, tmp_path: Path
) -> None:
    write_dying(installation.settings.plugins)
    async with installation.serving("dead-letters") as client:
        await client.call("trap", "do", None)
    (first,) = await installation.letters(1)
    assert first.recording is not None
    again = await installation.run("dead", "replay", "--all")
    assert again.out == "replayed 1 of 1\n"
    async with installation.serving():  # records nothing
        (second,) = await installation.letters(1)
    assert second.id == first.id
    assert Header.RECORDING not in second.message.headers
    refused = await installation.run("dead", "show", first.id, "--recording", tmp_path / "none.json")
    assert refused.code == ExitCode.USAGE
    assert "has no recording" in refused.err


@pytest.mark.broker
async def test_a_caller_gets_what_host_functions_answered_only_where_the_worker_says_so(
    installation: Installation, tmp_path: Path
) -> None:
    call, called = ask("secret_page")
    write_plugin(installation.settings.plugins, "guest", wat(f"(drop {call}) (call $answer)", more=called))
    file = tmp_path / "recording.json"
    arguments = ("call", "guest", "do", "[1]", "--record", file)
    async with installation.serving("dead-letters") as client:
        assert (await client.call("guest", "do", record=True)).recording is None
        refused = await installation.run(*arguments)
    assert refused.code == ExitCode.USAGE
    assert "a worker gives them with --record dead-letters,callers" in refused.err
    assert not file.exists()
    async with installation.serving("callers") as client:
        assert (await client.call("guest", "do")).recording is None  # it does not ask
        given = await installation.run(*arguments)
    assert given.code == ExitCode.OK, given.err
    recording = read_recording(file.read_bytes())
    assert recording.request is not None
    assert recording.request.text == '{"action":"do","data":[1]}'
    assert recording.events[0].answer is not None
    assert recording.events[0].answer.text == '{"ok":"of the intranet"}'
    assert (await installation.run("replay", file, "--plugins", installation.settings.plugins)).code == ExitCode.OK


@pytest.mark.broker
async def test_a_recording_that_is_as_large_as_it_can_be_fits_beside_the_largest_request(
    installation: Installation,
) -> None:
    """All headers of a message have to fit into one frame: a letter that does not could never be buried."""
    noise = os.urandom(30_000)
    call, called = ask("storage_get", noise, at=8192)
    guest = wat(
        f"{f'(drop {call}) (global.set $heap (i32.const 60000))' * 4} unreachable",
        more=called,
    )
    write_plugin(installation.settings.plugins, "guest", guest)
    headers = {f"mine-{number}": "x" * 6_000 for number in range(10)}
    async with installation.serving("dead-letters"):
        transport = await connect(installation.url)
        request = request_message(installation.names, "guest", "do", None)
        await transport.publish(replace(request, headers=headers), mandatory=True)
        (letter,) = await installation.letters(1)
        await transport.close()
    assert letter.recording is not None
    assert len(letter.recording) > 30_000
    assert letter.message.headers["mine-9"] == headers["mine-9"]
