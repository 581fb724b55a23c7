"""Recordings: one run as a JSON document, from which it can be run again, anywhere and with nothing around it.

A guest is deterministic but for what it is told. So a recording holds what it was given (the request, what `initialize`
gets, its limits) and what it was told (`recorder`), in order, and how it ended. Bytes stand as HAR has them: as text,
or in base64 where they are none.

No secret of the plugin's is in one: they are masked in all of it, and the values of its variables are left out. What a
host function answered is in it, though, such as the bodies of HTTP responses: who reads a recording sees what the
plugin saw. A replay is given the masks. What a plugin computes from a secret, a signature say, it computes otherwise
then, and the replay shows it as a difference.

Recordings come from outside when they are read: from a file, or a message that anybody may have written. Reading one
takes time and memory in proportion to its size, which is bounded, however it was made.
"""

from __future__ import annotations

import base64
import binascii
import importlib.metadata
import platform
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json, to_json

from warren.manifests import Grant, runtime_version

from .errors import PluginError
from .module import shown
from .outcome import Outcome, RunKind
from .recorder import MAX_EVENTS, Event, Source
from .secrets import MASK, Secrets

FORMAT: Final = "warren.recording"
FORMAT_VERSION: Final = 1

#: A recording is no larger, as JSON: request, answer, settings and events have 1 MiB each, which base64 and JSON's
#: escapes make more of.
MAX_RECORDING_BYTES: Final = 16 << 20

#: Of events, what is tried to be packed: some 5 ms of the worker's time. Text packs into a quarter, or less.
_MAX_PACKED_EVENT_BYTES: Final = 256 << 10

_FILE_POWERS: Final = frozenset({"read_files", "write_files"})

CUT: Final = "the run was told more than is recorded"
CUT_TO_FIT: Final = "more than what has room beside a message"


class RecordingUnreadable(PluginError):
    """What was to be a recording is none, or none that can be replayed here; says why."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Content(_Part):
    """Bytes."""

    text: str
    encoding: Literal["base64"] | None = None

    @classmethod
    def of(cls, data: bytes, secrets: Secrets) -> Self:
        """`data`, with its secrets masked."""
        try:
            return cls(text=secrets.mask_whole(data.decode()))
        except UnicodeDecodeError:
            return cls(text=base64.b64encode(secrets.mask_bytes(data)).decode(), encoding="base64")

    @model_validator(mode="after")
    def _stands_for_bytes(self) -> Self:
        try:
            _ = self.data
        except binascii.Error as error:
            raise ValueError(f"not base64: {error}") from None
        return self

    @property
    def data(self) -> bytes:
        return self.text.encode() if self.encoding is None else base64.b64decode(self.text, validate=True)


class Fault(_Part):
    """How something that a guest asked for ended its run."""

    kind: RunKind
    reason: str


class RecordedEvent(_Part):
    """One thing that the guest asked for, and was told; see `recorder.Event`."""

    source: Source
    name: str
    asked: Content
    answer: Content | None = None
    fault: Fault | None = None


class RecordedLimits(_Part):
    """Those of the run that a replay has, too."""

    memory_bytes: Annotated[int, Field(ge=0, le=1 << 32)]
    max_fuel: Annotated[int, Field(ge=0, lt=1 << 63)]
    timeout_s: Annotated[float, Field(gt=0, le=1e9)]


class RecordedOutcome(_Part):
    """How the run ended. `answer` is the guest's own, where it gave one."""

    kind: RunKind
    answer: Content | None = None
    error: str | None = None
    fuel: Annotated[int, Field(ge=0, lt=1 << 63)]
    memory_bytes: Annotated[int, Field(ge=0)]


class Recording(_Part):
    """One run. `digest` is that of the plugin's files, `config` what `initialize` is given.

    With `used_files` it read or wrote files of its own, and what is in those is not recorded. `cut` says why it does
    not hold all of what the run was told. `request` is None where it travels beside the message that has it;
    `with_request` puts it in.
    """

    format: Literal["warren.recording"]
    format_version: Literal[1]
    recorded: AwareDatetime
    warren: str
    wasmtime: str
    machine: str
    plugin: str
    version: str
    digest: str
    limits: RecordedLimits
    config: Content
    request: Content | None = None
    events: Annotated[tuple[RecordedEvent, ...], Field(max_length=MAX_EVENTS)]
    cut: str | None = None
    used_files: bool
    outcome: RecordedOutcome

    @property
    def is_masked(self) -> bool:
        """The plugin was given secrets or variables, and a replay gives it others."""
        return MASK in self.config.text

    def with_request(self, request: bytes) -> Recording:
        return self.model_copy(update={"request": Content.of(request, Secrets())})

    def to_json(self) -> bytes:
        """The document, for a file."""
        return self.model_dump_json(indent=2, exclude_none=True).encode() + b"\n"

    def packed(self, max_bytes: int) -> bytes | None:
        """What travels beside a message: without its request, and with as many of its events as there is room for.

        None where not even the rest has room. Takes 0.1 ms, or some 20 where there is a lot of it.
        """
        events = tuple(_first(self.events, _MAX_PACKED_EVENT_BYTES))
        while True:
            cut = self.cut if len(events) == len(self.events) else CUT_TO_FIT
            some = self.model_copy(update={"request": None, "events": events, "cut": cut})
            packed = zlib.compress(some.model_dump_json(exclude_none=True).encode())
            if len(packed) <= max_bytes:
                return packed
            if not events:
                return None
            # What is random packs into as much, and there may be more besides the events.
            events = events[: len(events) * min(max_bytes * 9, len(packed) * 5) // (len(packed) * 10)]


def _first(events: Iterable[RecordedEvent], max_bytes: int) -> Iterable[RecordedEvent]:
    for event in events:
        max_bytes -= len(event.name) + len(event.asked.text) + len(event.answer.text if event.answer else "")
        if max_bytes < 0:
            return
        yield event


@cache
def wasmtime_version() -> str:
    """The one that is installed. It is read from the disk."""
    return importlib.metadata.version("wasmtime")


def record_run(
    identity: tuple[str, str],
    digest: bytes,
    request: bytes,
    outcome: Outcome,
    *,
    grant: Grant,
    config: bytes,
    secrets: Secrets,
) -> Recording:
    """The recording of a run of that name and version, which was given `request` and has ended so."""
    recorder = outcome.recorder
    events = recorder.events if recorder is not None else []
    limits = grant.limits
    return Recording(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        recorded=datetime.fromtimestamp(outcome.start_ns / 1e9, UTC),
        warren=str(runtime_version()),
        wasmtime=wasmtime_version(),
        machine=platform.machine(),
        plugin=identity[0],
        version=identity[1],
        digest=digest.hex(),
        limits=RecordedLimits(
            memory_bytes=limits.memory_bytes, max_fuel=limits.max_fuel, timeout_s=float(limits.timeout_s)
        ),
        config=Content.of(_without_variables(config), secrets),
        request=Content.of(request, secrets),
        events=tuple(_recorded(event, secrets) for event in events),
        cut=CUT if recorder is not None and recorder.is_cut else None,
        used_files=any(use.power in _FILE_POWERS and not (use.refusal or use.plugin) for use in outcome.audit),
        outcome=RecordedOutcome(
            kind=outcome.kind,
            answer=Content.of(outcome.response, secrets) if outcome.response else None,
            error=None if outcome.error is None else secrets.mask(outcome.error),
            fuel=outcome.fuel,
            memory_bytes=outcome.memory_bytes,
        ),
    )


def _recorded(event: Event, secrets: Secrets) -> RecordedEvent:
    return RecordedEvent(
        source=event.source,
        name=secrets.mask_whole(event.name),
        asked=Content.of(event.asked, secrets),
        answer=None if event.answer is None else Content.of(event.answer, secrets),
        fault=None if event.fault is None else Fault(kind=event.fault[0], reason=secrets.mask(event.fault[1])),
    )


def _without_variables(config: bytes) -> bytes:
    """What `initialize` is given, with the values of its variables left out: they may be anything."""
    value = from_json(config)
    if isinstance(value, dict) and (variables := value.get("environment")):
        return to_json(value | {"environment": dict.fromkeys(variables, MASK)})
    return config


def read_recording(data: bytes) -> Recording:
    """A recording that was written as JSON. Raises `RecordingUnreadable`."""
    if len(data) > MAX_RECORDING_BYTES:
        raise RecordingUnreadable(f"is larger than {MAX_RECORDING_BYTES:,} bytes: that is no recording")
    head = _read_head(data)
    if head.format_version != FORMAT_VERSION:
        raise RecordingUnreadable(
            f"is a recording of format version {head.format_version}, and this Warren ({runtime_version()}) reads "
            f"version {FORMAT_VERSION}: replay it with the Warren that made it ({shown(head.warren)})"
        )
    try:
        return Recording.model_validate_json(data)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise RecordingUnreadable(f"is a damaged recording: at {shown(place)}: {problem['msg']}") from None


class _Head(BaseModel):
    """What recordings of every format version have."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    format: Literal["warren.recording"]
    format_version: int
    warren: str = "its version is not told"


def _read_head(data: bytes) -> _Head:
    try:
        return _Head.model_validate_json(data)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        if problem["type"] == "json_invalid":
            raise RecordingUnreadable(f"is not JSON: {problem['msg']}") from None
    raise RecordingUnreadable(f'is no recording of Warren\'s: it lacks "format": "{FORMAT}", or its version')


def unpack_recording(packed: bytes) -> Recording:
    """What `Recording.packed` gave. Raises `RecordingUnreadable`."""
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(packed, MAX_RECORDING_BYTES)
    except zlib.error as error:
        raise RecordingUnreadable(f"is damaged: {error}") from None
    if unpacking.unconsumed_tail:
        raise RecordingUnreadable(f"is larger than {MAX_RECORDING_BYTES:,} bytes: that is no recording")
    if not unpacking.eof:
        raise RecordingUnreadable("is damaged: its end is missing")
    return read_recording(data)
