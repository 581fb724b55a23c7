"""Recordings and their replay: a run happens again as it was, and what is otherwise is found at its first step."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.guests import ask, asking, data, log_answer, needing, relaying, wat, write_plugin
from warren.manifests import Policy
from warren.plugins import (
    Asked,
    Ended,
    LoadFailed,
    Outcome,
    PluginManager,
    Recording,
    RecordingUnreadable,
    Replayed,
    host_function,
    read_recording,
    replay,
    unpack_recording,
)
from warren.plugins.recorder import MAX_EVENTS, MAX_RECORDED_BYTES
from warren.plugins.recording import Content
from warren.plugins.secrets import MASK, Secrets

LIBC = (Path(__file__).parent / "wasi" / "libc.wasm").read_bytes()

REQUEST = b'{"action":"do","data":{"n":1}}'

#: Answers for a request: a text with each, and never the same twice.
_numbers = count()


@host_function()
def ticket() -> int:
    """Another one for each call."""
    return next(_numbers)


@host_function()
async def never() -> None:
    await asyncio.Event().wait()


def told_then(end: str, *, times: int = 2, function: str = "ticket") -> bytes:
    """A guest that asks a few times, logs what it is told, and then does what `end` says."""
    call, called = ask(function)
    asks = " ".join(
        f"""(local.set $got {call})
        (call $say (i32.wrap_i64 (i64.shr_u (local.get $got) (i64.const 32))) (i32.wrap_i64 (local.get $got)))"""
        for _ in range(times)
    )
    return wat(f"(local $got i64) {asks} {end}", more=called)


async def record(
    folder: Path, request: bytes = REQUEST, *, timeout_s: float | None = None, **options: Any
) -> tuple[Recording, Outcome]:
    """Run the only plugin of that folder once. The recording is as a file would have it."""
    functions = (ticket, never)
    async with PluginManager(folder, host_functions=functions, **options) as manager:
        assert not manager.failures
        (plugin,) = manager.plugins()
        outcome = await plugin.run(request, timeout_s=timeout_s)
        return read_recording(plugin.recording(request, outcome).to_json()), outcome


async def again(folder: Path, wasm: bytes, manifest: str = "", **options: Any) -> tuple[Replayed, Outcome]:
    """Record a plugin's run and replay it; the replay, and how the run itself ended."""
    write_plugin(folder, "guest", wasm, manifest)
    recording, outcome = await record(folder, **options)
    return await replay(recording, folder), outcome


def texts(outcome: Outcome) -> list[str]:
    return [line.text for line in outcome.logs]


ENDINGS = {
    "ok": ("(call $answer)", ""),
    "trap": ("unreachable", ""),
    "out_of_fuel": ("(loop $on (br $on)) unreachable", "[resources]\nmax_fuel = 3000000\n"),
    "output_too_large": ("(call $pack (i32.const 0) (i32.const 2000000))", ""),
    "out_of_memory": (
        "(if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then unreachable)) (call $answer)",
        "",
    ),
}


@pytest.mark.parametrize("kind", ENDINGS)
async def test_a_run_is_reproduced_to_the_last_unit_of_fuel(tmp_path: Path, kind: str) -> None:
    end, manifest = ENDINGS[kind]
    replayed, outcome = await again(tmp_path, told_then(end), manifest)
    assert outcome.kind == replayed.outcome.kind == kind
    assert replayed.difference is None
    assert replayed.cut_short is None
    assert replayed.same_files
    assert replayed.told == 2
    assert replayed.outcome.fuel == outcome.fuel
    assert replayed.outcome.backtrace == outcome.backtrace
    assert texts(replayed.outcome) == texts(outcome)
    assert len(set(texts(outcome))) == 2


async def test_a_run_that_needs_many_slices_and_calls_in_between_uses_the_same_fuel(tmp_path: Path) -> None:
    busy = """(local.set $n (i32.const 0)) (loop $on (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $on (i32.lt_u (local.get $n) (i32.const 400000))))"""
    call, called = ask("ticket")
    guest = wat(f"(local $n i32) {busy} (drop {call}) {busy} (drop {call}) (call $answer)", more=called)
    replayed, outcome = await again(tmp_path, guest)
    assert outcome.kind == "ok", outcome.error
    assert outcome.fuel > 4_000_000
    assert replayed.outcome.fuel == outcome.fuel


async def test_an_answer_that_its_schema_refuses_is_refused_again(tmp_path: Path) -> None:
    manifest = '[actions.do]\nresponse = {type = "string"}\n'
    replayed, outcome = await again(tmp_path, asking("ticket"), manifest)
    assert outcome.kind == "trap"
    assert "does not match its schema" in (outcome.error or "")
    assert (replayed.difference, replayed.outcome.error) == (None, outcome.error)


async def test_what_a_host_function_ends_a_run_with_ends_its_replay(tmp_path: Path) -> None:
    replayed, outcome = await again(tmp_path, asking("send_message", {"topic": "not.granted", "payload": 1}))
    assert outcome.kind == "denied"
    assert (replayed.difference, replayed.outcome.kind, replayed.outcome.error) == (None, "denied", outcome.error)


async def test_a_plugin_that_was_called_need_not_be_there(tmp_path: Path) -> None:
    write_plugin(tmp_path / "callee", "callee", asking("ticket"))
    write_plugin(tmp_path / "caller", "caller", relaying("callee"), needing("callee"))
    async with PluginManager(host_functions=[ticket]) as manager:
        await manager.load_plugin(tmp_path / "callee" / "callee.wasm")
        caller = await manager.load_plugin(tmp_path / "caller" / "caller.wasm")
        outcome = await caller.run(REQUEST)
        recording = caller.recording(REQUEST, outcome)
    assert outcome.kind == "ok", outcome.error
    (call,) = outcome.host_calls
    assert call.callee is not None
    assert call.callee.outcome.recorder is None  # what it was told is nobody's to keep
    replayed = await replay(recording, tmp_path / "caller")
    assert (replayed.difference, replayed.outcome.response) == (None, outcome.response)


@pytest.mark.parametrize("word", [b"clocks", b"random", b"poll", b"say"])
async def test_clocks_random_numbers_and_sleeps_are_as_they_were(tmp_path: Path, word: bytes) -> None:
    replayed, outcome = await again(tmp_path, LIBC, request=word)
    assert outcome.kind == "ok", outcome.error
    assert replayed.difference is None
    assert texts(replayed.outcome) == texts(outcome)
    assert replayed.outcome.fuel == outcome.fuel


async def test_a_guest_that_was_past_its_deadline_stops_where_it_was(tmp_path: Path) -> None:
    manifest = f"[resources]\nmax_fuel = {10**12}\n"
    policy = Policy(limits=replace(Policy().limits, max_fuel=10**12))
    guest = told_then("(loop $on (br $on)) unreachable")
    replayed, outcome = await again(tmp_path, guest, manifest, policy=policy, timeout_s=0.05)
    assert outcome.kind == "deadline_exceeded"
    assert replayed.difference is None
    assert replayed.outcome.kind == "out_of_fuel"
    assert replayed.outcome.backtrace


async def test_a_guest_that_waited_past_its_deadline_waits_for_the_same(tmp_path: Path) -> None:
    replayed, outcome = await again(tmp_path, asking("never"), timeout_s=0.05)
    assert outcome.kind == "deadline_exceeded"
    assert replayed.difference is None
    assert replayed.outcome.error == "the run's time was over while it waited for 'never'"


async def test_a_guest_that_slept_past_its_deadline_sleeps_again_without_waiting(tmp_path: Path) -> None:
    replayed, outcome = await again(tmp_path, LIBC, request=b"clocks", timeout_s=0.01)
    assert outcome.kind == "deadline_exceeded"
    assert replayed.difference is None
    assert replayed.outcome.error == "the run's time was over while it waited for 'sleep'"


async def test_another_version_has_the_time_that_was_recorded_and_all_of_the_fuel(tmp_path: Path) -> None:
    write_plugin(
        tmp_path / "old", "guest", wat("(loop $on (br $on)) unreachable"), "[resources]\ntimeout_seconds = 1\n"
    )
    recording, outcome = await record(tmp_path / "old")
    assert outcome.kind == "out_of_fuel"
    limits = recording.limits.model_copy(update={"timeout_s": 0.05, "max_fuel": 10**12})
    late = recording.outcome.model_copy(update={"kind": "deadline_exceeded", "fuel": 10})
    recording = recording.model_copy(update={"limits": limits, "outcome": late})
    write_plugin(tmp_path / "same", "guest", wat("(nop) (loop $on (br $on)) unreachable"))
    assert (await replay(recording, tmp_path / "same")).difference is None
    write_plugin(tmp_path / "new", "guest", told_then("(call $answer)", times=0))
    mended = (await replay(recording, tmp_path / "new")).difference
    assert isinstance(mended and mended.now, Ended)


async def test_a_snapshot_is_made_anew_and_goes_on_as_it_did(tmp_path: Path) -> None:
    call, called = ask("ticket")
    guest = wat(
        log_answer(call).replace("(call $answer)", "(call $say (global.get $kept) (i32.const 10)) (call $answer)"),
        more=f"""{called} (global $kept (mut i32) (i32.const 0))
        (func (export "initialize") (param $at i32) (param i32) (result i32)
          (global.set $kept (local.get $at)) (i32.const 0))""",
    )
    replayed, outcome = await again(tmp_path, guest, "[runtime]\nsnapshot = true\n")
    assert outcome.kind == "ok", outcome.error
    assert replayed.difference is None
    assert texts(replayed.outcome) == texts(outcome)


# Another version.


async def in_another(folder: Path, before: bytes, after: bytes, manifest: str = "") -> Replayed:
    write_plugin(folder / "old", "guest", before)
    recording, outcome = await record(folder / "old")
    assert outcome.kind != "unavailable"
    write_plugin(folder / "new", "guest", after, manifest, version="2.0.0")
    return await replay(recording, folder / "new", "2.0.0")


async def test_the_first_difference_is_a_call_with_other_arguments(tmp_path: Path) -> None:
    replayed = await in_another(tmp_path, asking("storage_get", {"key": "a"}), asking("storage_get", {"key": "b"}))
    assert replayed.difference is not None
    assert replayed.version == "2.0.0"
    assert not replayed.same_files
    assert replayed.difference.alike == 0
    assert replayed.difference.recorded == Asked("host_call", "storage_get", b'{"key": "a"}')
    assert replayed.difference.now == Asked("host_call", "storage_get", b'{"key": "b"}')


async def test_arguments_that_are_only_written_otherwise_are_the_same(tmp_path: Path) -> None:
    def calling(arguments: str) -> bytes:
        call, called = ask("ticket", arguments)
        return wat(f"(drop {call}) (call $answer)", more=called)

    same = await in_another(tmp_path, calling('{"a": 1, "b": [true]}'), calling('{"b":[true],"a":1}'))
    assert same.difference is None
    other = await in_another(tmp_path / "more", calling('{"a": 1}'), calling('{"a": true}'))
    assert other.difference is not None


@pytest.mark.parametrize(
    ("before", "after", "recorded", "now"),
    [
        (1, 2, Ended, Asked),
        (2, 1, Asked, Ended),
        (0, 1, Ended, Asked),
    ],
)
async def test_the_first_difference_is_a_call_too_many_or_too_few(
    tmp_path: Path, before: int, after: int, recorded: type, now: type
) -> None:
    end = "(call $answer)"
    replayed = await in_another(tmp_path, told_then(end, times=before), told_then(end, times=after))
    assert replayed.difference is not None
    assert replayed.difference.alike == min(before, after)
    assert isinstance(replayed.difference.recorded, recorded)
    assert isinstance(replayed.difference.now, now)


async def test_the_first_difference_is_the_end(tmp_path: Path) -> None:
    mended = await in_another(tmp_path, told_then("unreachable"), told_then("(call $answer)"))
    assert mended.difference is not None
    assert isinstance(mended.difference.recorded, Ended)
    assert isinstance(mended.difference.now, Ended)
    assert (mended.difference.recorded.kind, mended.difference.now.kind) == ("trap", "ok")
    otherwise = await in_another(tmp_path / "more", wat(), told_then("(call $pack (i32.const 9000) (i32.const 1))"))
    assert otherwise.difference is not None


async def test_a_version_that_is_not_there_is_said_with_those_that_are(tmp_path: Path) -> None:
    write_plugin(tmp_path, "guest")
    recording, _ = await record(tmp_path)
    with pytest.raises(LoadFailed, match=r"there is no guest 3\.0\.0 to replay it in; of guest there is 1\.0\.0"):
        await replay(recording, tmp_path, "3.0.0")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LoadFailed, match=r"there is no guest 1\.0\.0 to replay it in, nor any other version"):
        await replay(recording, tmp_path / "empty")


# What is in a recording.

HIDDEN = 'hunter2 "quoted"'

#: Hands what it is initialised with to a host function.
TELLS_ALL = wat(
    "(drop (call $ask (i32.const 1024) (i32.const 6) (global.get $at) (global.get $size))) (call $answer)",
    more=f"""{data(1024, "ticket")} (global $at (mut i32) (i32.const 0)) (global $size (mut i32) (i32.const 0))
    (func (export "initialize") (param $at i32) (param $size i32) (result i32)
      (global.set $at (local.get $at)) (global.set $size (local.get $size)) (i32.const 0))""",
)


async def test_no_secret_and_no_variable_is_in_a_recording_and_the_guest_is_given_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", HIDDEN)
    monkeypatch.setenv("LANGUAGE", "Kanuri")
    manifest = '[permissions]\nenvironment_vars = ["API_KEY", "LANGUAGE"]\n[settings]\nkey = "env:API_KEY"\n'
    write_plugin(tmp_path, "guest", TELLS_ALL, manifest)
    recording, outcome = await record(tmp_path, policy=Policy(environment_vars=frozenset({"API_KEY", "LANGUAGE"})))
    assert outcome.kind == "ok", outcome.error
    written = recording.to_json().decode()
    assert "hunter2" not in written
    config = json.loads(recording.config.data)
    assert config["settings"] == {"key": MASK}
    assert config["environment"] == {"API_KEY": MASK, "LANGUAGE": MASK}
    # It told the world its environment, and does so again once it is given it.
    different = await replay(recording, tmp_path)
    assert isinstance(different.difference and different.difference.now, Asked)
    same = await replay(recording, tmp_path, variables={"LANGUAGE": "Kanuri"})
    assert same.difference is None
    with pytest.raises(RecordingUnreadable, match="had no variable 'OTHER'; there are API_KEY, LANGUAGE"):
        await replay(recording, tmp_path, variables={"OTHER": "x"})


def test_what_is_no_text_is_masked_as_well() -> None:
    content = Content.of(b"\xff" + HIDDEN.encode() + b"\xff", Secrets([HIDDEN]))
    assert content.encoding == "base64"
    assert content.data == b"\xff***\xff"


async def test_files_are_those_of_the_folder_that_a_replay_is_given(tmp_path: Path) -> None:
    guest = (Path(__file__).parent / "wasi" / "files.wasm").read_bytes()
    manifest = '[capabilities]\nrequired = ["filesystem"]\n[permissions]\nread_files = ["*"]\n'
    write_plugin(tmp_path / "plugins", "guest", guest, manifest)
    (tmp_path / "data" / "guest").mkdir(parents=True)
    (tmp_path / "data" / "guest" / "notes").write_text("rabbits")
    policy = Policy(frozenset({"compute", "filesystem"}))
    recording, outcome = await record(tmp_path / "plugins", b"r notes", policy=policy, data=tmp_path / "data")
    assert b"rabbits" in outcome.response
    assert recording.used_files
    assert (await replay(recording, tmp_path / "plugins", data=tmp_path / "data")).difference is None
    without = await replay(recording, tmp_path / "plugins")
    assert isinstance(without.difference and without.difference.now, Ended)


async def test_what_is_kept_of_a_run_is_bounded_and_a_replay_says_where_it_ends(tmp_path: Path) -> None:
    call, called = ask("ticket")
    rounds = MAX_EVENTS + 10
    guest = wat(
        f"""(local $n i32) (loop $on (drop {call}) (global.set $heap (i32.const 4096))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $on (i32.lt_u (local.get $n) (i32.const {rounds})))) (call $answer)""",
        more=called,
    )
    replayed, outcome = await again(tmp_path, guest)
    assert outcome.kind == "ok", outcome.error
    assert replayed.told == len(replayed.recording.events) == MAX_EVENTS
    assert replayed.cut_short == "the run was told more than is recorded"
    assert replayed.difference is None


async def test_large_answers_are_kept_up_to_a_megabyte(tmp_path: Path) -> None:
    size = MAX_RECORDED_BYTES // 20

    @host_function()
    def page() -> str:
        return "x" * size

    call, called = ask("page")
    many = f"(drop {call}) (global.set $heap (i32.const 4096))" * 40
    write_plugin(tmp_path, "guest", wat(f"{many} (call $answer)", more=called))
    async with PluginManager(tmp_path, host_functions=[page]) as manager:
        outcome = await manager.find("guest").run(REQUEST)
    assert outcome.kind == "ok", outcome.error
    assert outcome.recorder is not None
    assert outcome.recorder.is_cut
    kept = [event.answer or b"" for event in outcome.recorder.events]
    assert len(kept) == 19
    assert all(len(answer) > size for answer in kept)


async def test_a_run_that_asks_for_nothing_has_no_recorder(tmp_path: Path) -> None:
    write_plugin(tmp_path, "guest")
    _, outcome = await record(tmp_path)
    assert outcome.recorder is None


# Beside a message.


async def test_a_packed_recording_is_the_same_without_its_request(tmp_path: Path) -> None:
    write_plugin(tmp_path, "guest", told_then("unreachable"))
    recording, _ = await record(tmp_path)
    packed = recording.packed(40_000)
    assert packed is not None
    unpacked = unpack_recording(packed)
    assert unpacked.request is None
    assert unpacked.with_request(REQUEST) == recording
    with pytest.raises(RecordingUnreadable, match="has no request"):
        await replay(unpacked, tmp_path)


async def test_of_many_events_those_are_packed_that_have_room(tmp_path: Path) -> None:
    write_plugin(tmp_path, "guest", told_then("(call $answer)", times=200))
    recording, _ = await record(tmp_path)
    noisy = recording.model_copy(
        update={
            "events": tuple(
                event.model_copy(update={"answer": event.asked.model_copy(update={"text": os.urandom(500).hex()})})
                for event in recording.events
            )
        }
    )
    packed = noisy.packed(40_000)
    assert packed is not None
    assert len(packed) <= 40_000
    some = unpack_recording(packed)
    assert 40 < len(some.events) < 200
    assert some.events == noisy.events[: len(some.events)]
    assert some.cut == "more than what has room beside a message"
    assert noisy.packed(100) is None


def test_what_packs_into_nothing_is_not_unpacked() -> None:
    bomb = zlib.compress(b"[" * (64 << 20))
    with pytest.raises(RecordingUnreadable, match="larger than"):
        unpack_recording(bomb)


@pytest.mark.parametrize(
    ("packed", "complaint"),
    [(b"", "its end is missing"), (b"x" * 100, "damaged"), (zlib.compress(b"{}")[:-3], "its end is missing")],
)
def test_what_was_not_packed_is_not_unpacked(packed: bytes, complaint: str) -> None:
    with pytest.raises(RecordingUnreadable, match=complaint):
        unpack_recording(packed)


# Recordings that are none.


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("recorded")
    write_plugin(folder, "guest", told_then("unreachable"))
    recording, _ = asyncio.run(record(folder))
    value: dict[str, Any] = json.loads(recording.to_json())
    return value


def _set(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda value: value | changes


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_set(format="har"), 'it lacks "format": "warren.recording"'),
        (_set(format_version="1"), "no recording"),
        (_set(format_version=10**400), "no recording|format version"),
        (_set(format_version=2), r"format version 2, and this Warren \(.+\) reads version 1"),
        (_set(format_version=2, warren="0.9.0"), r"the Warren that made it \('0.9.0'\)"),
        (_set(plugin=7), "at 'plugin': Input should be a valid string"),
        (_set(more=1), "at 'more': Extra inputs are not permitted"),
        (_set(request={"text": "!", "encoding": "base64"}), "not base64"),
        (_set(limits={"memory_bytes": 1 << 40, "max_fuel": 1, "timeout_s": 1.0}), "at 'limits.memory_bytes'"),
        (_set(events=[{"source": "file", "name": "", "asked": {"text": ""}}]), "at 'events.0.source'"),
        (_set(outcome=None), "at 'outcome'"),
    ],
)
def test_a_damaged_recording_is_refused_with_its_place(
    document: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]], complaint: str
) -> None:
    with pytest.raises(RecordingUnreadable, match=complaint):
        read_recording(json.dumps(change(document)).encode())


@pytest.mark.parametrize(
    ("data_", "complaint"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[]", "no recording"),
        (b"[" * 1_000_000, "is not JSON"),
        (b"[" + b"{}," * 1_000_000 + b"0]", "no recording"),
        (b'{"a":' * 1_000_000, "is not JSON"),
        (b"0" * ((16 << 20) + 1), "larger than"),
    ],
)
def test_what_is_no_recording_is_refused_soon(data_: bytes, complaint: str) -> None:
    with pytest.raises(RecordingUnreadable, match=complaint):
        read_recording(data_)


@given(place=st.integers(0, 3_000), byte=st.binary(min_size=0, max_size=3))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_is_done_to_a_recording_it_is_read_or_refused(
    document: dict[str, Any], place: int, byte: bytes
) -> None:
    written = json.dumps(document).encode()
    place %= len(written)
    with contextlib.suppress(RecordingUnreadable):
        read_recording(written[:place] + byte + written[place + 1 :])


@pytest.mark.parametrize(
    "config", ["[]", "no JSON", '{"environment": 5}'], ids=["a list", "nonsense", "an environment that is none"]
)
async def test_a_recording_of_another_shape_inside_is_refused(
    document: dict[str, Any], tmp_path: Path, config: str
) -> None:
    write_plugin(tmp_path, "guest")
    recording = read_recording(json.dumps(document | {"config": {"text": config}}).encode())
    with pytest.raises(RecordingUnreadable, match="'config' is not what"):
        await replay(recording, tmp_path)


async def test_times_and_random_bytes_that_cannot_be_end_the_replay(tmp_path: Path) -> None:
    write_plugin(tmp_path, "guest", LIBC)
    for word in (b"clocks", b"random", b"poll"):
        recording, _ = await record(tmp_path, word)
        events = [
            event.model_copy(update={"answer": event.asked.model_copy(update={"text": "\x7f-"})})
            for event in recording.events
        ]
        assert events
        spoilt = recording.model_copy(update={"events": tuple(events)})
        replayed = await replay(spoilt, tmp_path)
        assert isinstance(replayed.difference and replayed.difference.now, Ended | Asked)
        assert "the recording is damaged" in (replayed.outcome.error or "")
