"""Replay: a recorded run once more, with nothing around it, in the same version of its plugin or in another.

It is the real sandbox. What differs is its session: whatever the guest asks for, it is told what the recording has, in
the order that it has it. The first thing that is otherwise ends the replay: another question, or none, or another end.
So a recording is a test of a new version, and a way to stand in the middle of a run that has long ended.

Questions are compared by what they say: JSON as a value, however it is written. An answer is the recorded bytes.

Fuel is counted the same everywhere, so `out_of_fuel` comes at the same instruction (with the same wasmtime). Time is
not: a run that was past its deadline is given the fuel that it had used by then, and stops where it was, or in the host
function that it waited for. Another version, whose fuel would say nothing, is given the recorded time instead.

What cannot be told again: the files of a plugin (the folder that a replay is given is read as it is), what a snapshot
drew when it was made, and what was masked.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, cast

from pydantic_core import from_json, to_json

from warren.manifests import Limits, Manifest, ManifestError, Policy

from .artefacts import cache_folder
from .checks import check_plugin
from .engine import Engine
from .errors import CompilationFailed, GuestFault, LoadFailed, ModuleRefused
from .files import PluginFiles, find_plugins
from .host import HostSession, Surroundings
from .host_functions import CAPABILITIES
from .loading import make_sandbox
from .outcome import Outcome, RunKind
from .plugin import Plugin
from .plugin_folder import PluginFolders
from .recorder import Source
from .recording import RecordedEvent, RecordedLimits, Recording, RecordingUnreadable
from .world import Clock, Timer

#: Most replays are bounded by fuel alone, for machines differ. This is for recordings that have a lot of it.
REPLAY_TIMEOUT_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Asked:
    """Something that a guest asked for; see `recorder.Event`."""

    source: Source
    name: str
    asked: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: as in its outcome."""

    kind: RunKind
    answer: bytes
    error: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """The first of two runs: they were told the same `alike` times, and then one did this and the other that."""

    alike: int
    recorded: Asked | Ended
    now: Asked | Ended


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a replay. Without a `difference` it went as recorded; as far as it went, where it is `cut_short`.

    `version` is what it was run in, and `same_files` whether those are the files that were recorded. `told` is the
    number of things that the guest was told. `outcome` is the replay's own: of a replay that ended early only the fuel,
    the logs and the memory mean anything.
    """

    recording: Recording
    version: str
    same_files: bool
    told: int
    outcome: Outcome
    difference: Difference | None = None
    cut_short: str | None = None


async def replay(
    recording: Recording,
    directory: Path,
    version: str | None = None,
    *,
    variables: Mapping[str, str] | None = None,
    data: Path | None = None,
) -> Replayed:
    """Run it again in the plugin of that name in `directory`, of the recorded `version` if no other is named.

    `variables` are values for those of its variables, which no recording has; `data` is a folder in which its own
    directory is, to read and write. Without one it finds no files.

    Raises `RecordingUnreadable`, and `LoadFailed` or `ManifestError` for a plugin that is not there or does not load.
    """
    if recording.request is None:
        raise RecordingUnreadable("the recording has no request: that is in the message that it was taken from")
    request = recording.request.data
    player = _Player(recording.events)
    with tempfile.TemporaryDirectory(prefix="warren-replay-") as nothing:
        plugin = await _load(
            recording, player, directory, version, variables=variables or {}, data=data or Path(nothing)
        )
        outcome = await plugin.run(request)
    same_files = _is_of(recording, plugin.digest)
    done = Replayed(recording, plugin.version, same_files, player.told, outcome)
    if player.difference is not None:
        return replace(done, difference=player.difference)
    if player.unexpected is not None and recording.cut is not None:
        return replace(done, cut_short=recording.cut)
    return replace(done, difference=_at_the_end(recording, player, outcome, same_files=same_files))


async def _load(
    recording: Recording,
    player: _Player,
    directory: Path,
    version: str | None,
    *,
    variables: Mapping[str, str],
    data: Path,
) -> Plugin:
    files, manifest = await asyncio.to_thread(_find, directory, recording.plugin, version or recording.version)
    checked = await asyncio.to_thread(check_plugin, files, _allowing_all(manifest, recording.limits))
    limits = _limits(checked.grant.limits, recording, same_files=_is_of(recording, checked.digest))
    grant = replace(checked.grant, limits=limits)
    checked = replace(checked, grant=grant)
    config, environment = _config(recording, variables)
    folder = await asyncio.to_thread(PluginFolders(data, directory).folder, grant, files)
    try:
        sandbox = await make_sandbox(
            Engine(cache_folder()),
            checked,
            config,
            {},
            surroundings=Surroundings(environment, folder=folder),
            session=partial(_ReplaySession, player),
        )
    except (ModuleRefused, CompilationFailed) as error:
        raise LoadFailed(str(files.wasm), str(error)) from error
    return Plugin(manifest, grant, files, sandbox, checked.actions, digest=checked.digest)


def _is_of(recording: Recording, digest: bytes) -> bool:
    """Whether it is of files with this digest."""
    return digest.hex() == recording.digest


def _limits(own: Limits, recording: Recording, *, same_files: bool) -> Limits:
    """Those that were recorded, for the run to end as it did; see the head of this module."""
    recorded, outcome = recording.limits, recording.outcome
    fuel, timeout_s = recorded.max_fuel, REPLAY_TIMEOUT_S
    if outcome.kind == "deadline_exceeded" and same_files:
        fuel = outcome.fuel
    elif outcome.kind == "deadline_exceeded":
        timeout_s = min(recorded.timeout_s, REPLAY_TIMEOUT_S)
    return replace(own, memory_bytes=recorded.memory_bytes, max_fuel=fuel, timeout_s=timeout_s)


def _find(directory: Path, name: str, version: str) -> tuple[PluginFiles, Manifest]:
    """Raises `LoadFailed`. Manifests that cannot be read are other plugins'."""
    versions: list[str] = []
    for files in find_plugins(directory):
        try:
            manifest = files.read_manifest()
        except (LoadFailed, ManifestError):
            continue
        if manifest.name == name:
            if str(manifest.version) == version:
                return files, manifest
            versions.append(str(manifest.version))
    others = f"; of {name} there is {', '.join(sorted(versions))}" if versions else ", nor any other version"
    raise LoadFailed(str(directory), f"there is no {name} {version} to replay it in{others}")


def _allowing_all(manifest: Manifest, recorded: RecordedLimits) -> Policy:
    """Nothing that a replay does has an effect, so it may do everything."""
    limits = Limits(memory_bytes=recorded.memory_bytes, max_fuel=recorded.max_fuel, timeout_s=recorded.timeout_s)
    return Policy(
        frozenset(CAPABILITIES),
        frozenset(manifest.permissions.environment_vars),
        limits=limits,
        capability_limits={},
        defaults=limits,
        capability_defaults={},
    )


def _config(recording: Recording, variables: Mapping[str, str]) -> tuple[bytes, tuple[bytes, ...]]:
    """What `initialize` is given, and the environment, with these `variables` in their places."""
    config = recording.config.data
    try:
        value = from_json(config)
    except ValueError:
        value = None
    known = cast("dict[str, Any]", value).get("environment", {}) if isinstance(value, dict) else None
    if not isinstance(known, dict):
        raise RecordingUnreadable("is a damaged recording: 'config' is not what a plugin is initialised with")
    if unknown := sorted(variables.keys() - known.keys()):
        there_are = ", ".join(sorted(known)) or "none at all"
        raise RecordingUnreadable(f"the recorded plugin had no variable {unknown[0]!r}; there are {there_are}")
    if variables:
        known |= variables
        config = to_json(value)
    return config, tuple(f"{name}={given}".encode() for name, given in known.items())


class _Player:
    """The events of a recording, told one after the other."""

    def __init__(self, events: Sequence[RecordedEvent]) -> None:
        self._events = events
        self.told = 0
        #: What the guest asked for after the last event.
        self.unexpected: Asked | None = None
        self.difference: Difference | None = None

    @property
    def next(self) -> Asked | None:
        """What the guest is going to ask for."""
        if self.told >= len(self._events):
            return None
        event = self._events[self.told]
        return Asked(event.source, event.name, event.asked.data)

    def tell(self, asked: Asked) -> bytes:
        """The answer. Raises `GuestFault` where that ended the run, or there is none, or something else was asked."""
        expected = self.next
        if expected is None:
            self._stop_at_the_end(asked)
        if not _is_same(expected, asked):
            self._differ(expected, asked)
        event = self._events[self.told]
        self.told += 1
        if event.fault is not None:
            raise GuestFault(event.fault.kind, event.fault.reason)
        if event.answer is None:  # the run ended while it waited for this
            what = asked.name if asked.source == "host_call" else asked.source
            raise GuestFault("deadline_exceeded", f"the run's time was over while it waited for {what!r}")
        return event.answer.data

    def _stop_at_the_end(self, asked: Asked) -> NoReturn:
        self.unexpected = asked
        raise GuestFault("unavailable", "the recording ends here")

    def _differ(self, expected: Asked, asked: Asked) -> NoReturn:
        self.difference = Difference(self.told, expected, asked)
        raise GuestFault("unavailable", "the recording has something else here")


class _ReplaySession(HostSession):
    """Tells what the recording has. A guest can log as ever; what it sends was a host call, and goes nowhere."""

    __slots__ = ("_player", "_woken_by")

    def __init__(self, player: _Player, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._player = player
        self._woken_by: list[int] = []

    def call(self, name: bytes, arguments: bytes) -> bytes | Coroutine[Any, Any, bytes]:
        return self._player.tell(Asked("host_call", name.decode(errors="replace"), arguments))

    def clock_ns(self, clock: Clock) -> int:
        return _number(self._player.tell(Asked("clock", clock, b"")))

    def random_bytes(self, length: int) -> bytes:
        drawn = self._player.tell(Asked("random", "", b"%d" % length))
        if len(drawn) != length:
            raise _damaged(f"{len(drawn):,} random bytes where {length:,} were drawn")
        return drawn

    def begin_sleep(self, timers: Sequence[Timer | None]) -> list[int]:
        self._woken_by = list(self._player.tell(Asked("sleep", "", b"%d" % len(timers))))
        if any(place >= len(timers) for place in self._woken_by):
            raise _damaged("a sleep that was ended by what it did not wait for")
        return [0] * len(timers)

    def woken_by(self, due_ns: Sequence[int]) -> list[int] | None:  # noqa: ARG002
        return self._woken_by


def _number(text: bytes) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 63:
        raise _damaged("a time that is none")
    return number


def _damaged(what: str) -> GuestFault:
    return GuestFault("unavailable", f"the recording is damaged: it has {what}")


def _is_same(recorded: Asked, now: Asked) -> bool:
    if (recorded.source, recorded.name) != (now.source, now.name):
        return False
    return recorded.asked == now.asked or _says_same(recorded.asked, now.asked)


def _says_same(one: bytes, other: bytes) -> bool:
    """Whether both are JSON, of one value."""
    try:
        return to_json(_sorted(from_json(one))) == to_json(_sorted(from_json(other)))
    except ValueError:
        return False


def _sorted(value: Any) -> Any:
    """With the keys in order, all the way down; Python's own comparison takes 1 for True."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _at_the_end(recording: Recording, player: _Player, outcome: Outcome, *, same_files: bool) -> Difference | None:
    """How the replay's end differs from the recorded one."""
    recorded = _recorded_end(recording)
    ended = Ended(outcome.kind, outcome.response, outcome.error)
    if player.unexpected is not None:
        return Difference(player.told, recorded, player.unexpected)
    if (missed := player.next) is not None:
        return Difference(player.told, missed, ended)
    if recorded.kind == "deadline_exceeded":
        is_same = ended.kind == "deadline_exceeded" or (ended.kind == "out_of_fuel" and same_files)
    else:
        same_answer = recorded.answer == ended.answer or _says_same(recorded.answer, ended.answer)
        is_same = recorded.kind == ended.kind and same_answer and recorded.error == ended.error
    return None if is_same else Difference(player.told, recorded, ended)


def _recorded_end(recording: Recording) -> Ended:
    was = recording.outcome
    return Ended(was.kind, b"" if was.answer is None else was.answer.data, was.error)
