"""The manifest in its one normalised form, frozen. What each field takes is said by its type, and nowhere else.

`parse.py` brings both written forms into this shape and turns pydantic's findings into sentences. Types are strict:
`true` is no number and `"5"` is no integer. Arrays become tuples; free-form tables stay the dicts they were read as,
and are not to be changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticKnownError
from semver import Version

from .permissions import environment_variable, network_host, relative_glob, system_call
from .topics import TopicPattern
from .versions import VersionReq, parse_version

Capability = Literal["network", "filesystem", "compute", "storage"]
Abi = Literal["core", "wasi", "extism", "component"]
Retryable = Literal[
    "trap", "out_of_fuel", "out_of_memory", "deadline_exceeded", "output_too_large", "denied", "unavailable"
]

_PLUGIN_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
#: An action is one word of a routing key, `<plugin>.<action>`.
_ACTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")

#: What AMQP takes for the name of a header, less what nobody would call one.
_HEADER_NAME = re.compile(r"[!-~]{1,128}")


def is_plugin_name(text: str) -> bool:
    """Whether `text` can name a plugin: one word of a routing key, and of a queue's name."""
    return _PLUGIN_NAME.fullmatch(text) is not None


def _plugin_name(text: str) -> str:
    if not is_plugin_name(text):
        raise ValueError("a plugin's name has 1 to 63 of a-z, 0-9, '_' and '-', a letter first")
    return text


def is_action_name(text: str) -> bool:
    """Whether `text` can name an action."""
    return _ACTION_NAME.fullmatch(text) is not None


def _action_name(text: str) -> str:
    if not is_action_name(text):
        raise ValueError("an action's name has 1 to 63 letters, digits, '_' and '-', and no digit or '-' first")
    return text


def _argument(text: str) -> str:
    if "\0" in text:
        message = "an argument of a program cannot hold a zero byte"
        raise ValueError(message)
    return text


def _plain_text(text: str) -> str:
    if not all(character.isprintable() or character in "\n\t" for character in text):
        raise ValueError("the text holds a control character")
    return text


def _sticky_key(text: str) -> str:
    if not _HEADER_NAME.fullmatch(text):
        raise ValueError("a request is known by its message_id, its correlation_id, or a header: 1 to 128 of ASCII")
    return text


def _library(value: object) -> object:
    if not isinstance(value, str | dict):
        raise ValueError("a library is a version string or a table, as in Cargo.toml")  # noqa: TRY004
    return value


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    return value


def _version(value: object) -> Version:
    return value if isinstance(value, Version) else parse_version(_string(value))


def _version_req(value: object) -> VersionReq:
    return value if isinstance(value, VersionReq) else VersionReq.parse(_string(value))


def _topic_pattern(value: object) -> TopicPattern:
    return value if isinstance(value, TopicPattern) else TopicPattern.parse(_string(value))


AsString = PlainSerializer(str, return_type=str)
#: What `plugin_schema` says of what these types check themselves.
InSchema = WithJsonSchema({"type": "string"})
VersionField = Annotated[Version, PlainValidator(_version), AsString, InSchema]
VersionReqField = Annotated[VersionReq, PlainValidator(_version_req), AsString, InSchema]
TopicField = Annotated[TopicPattern, PlainValidator(_topic_pattern), AsString, InSchema]

Name = Annotated[
    StrictStr, AfterValidator(_plugin_name), WithJsonSchema({"type": "string", "pattern": f"^{_PLUGIN_NAME.pattern}$"})
]
ActionName = Annotated[
    StrictStr, AfterValidator(_action_name), WithJsonSchema({"type": "string", "pattern": f"^{_ACTION_NAME.pattern}$"})
]
Argument = Annotated[StrictStr, AfterValidator(_argument)]
Text = Annotated[StrictStr, AfterValidator(_plain_text)]
Glob = Annotated[StrictStr, AfterValidator(relative_glob)]
Host = Annotated[StrictStr, AfterValidator(network_host)]
Variable = Annotated[StrictStr, AfterValidator(environment_variable)]
SystemCall = Annotated[StrictStr, AfterValidator(system_call)]
StickyKey = Annotated[StrictStr, AfterValidator(_sticky_key)]
Library = Annotated[Any, AfterValidator(_library), WithJsonSchema({"type": ["string", "object"]})]

Seconds = Annotated[StrictFloat, Field(gt=0, le=86_400)]
Milliseconds = Annotated[StrictInt, Field(ge=1, le=86_400_000)]


class Section(BaseModel):
    """A table of the manifest: no unknown keys, no changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Capabilities(Section):
    """What the plugin cannot do without, and what it makes use of where it is given."""

    required: tuple[Capability, ...] = ()
    optional: tuple[Capability, ...] = ()


class Permissions(Section):
    """What the plugin may touch by means of its capabilities. `system_calls` is there to be refused."""

    read_files: tuple[Glob, ...] = ()
    write_files: tuple[Glob, ...] = ()
    network_hosts: tuple[Host, ...] = ()
    environment_vars: tuple[Variable, ...] = ()
    system_calls: tuple[SystemCall, ...] = ()


class Resources(Section):
    """What the plugin asks for. The bounds catch slips of the pen; the operator's ceilings are what counts.

    `memory_mb` counts MiB, of which 32-bit memories have 4096.
    """

    memory_mb: Annotated[StrictInt, Field(ge=1, le=4096)] | None = None
    timeout_seconds: Seconds | None = None
    max_fuel: Annotated[StrictInt, Field(ge=1, le=10**15)] | None = None
    max_open_files: Annotated[StrictInt, Field(ge=1, le=65_536)] | None = None
    max_network_connections: Annotated[StrictInt, Field(ge=1, le=65_536)] | None = None
    network_timeout_seconds: Seconds | None = None


class PluginDependency(Section):
    """Another plugin that this one calls or listens to."""

    name: Name
    version_req: VersionReqField
    optional: StrictBool = False


class Build(Section):
    """How the guest was built. For people; Warren does nothing with it."""

    optimize: StrictBool | None = None
    target: Text | None = None
    features: tuple[Text, ...] = ()


class Metadata(Section):
    """Free-form; `category` and `tags` are the keys everyone uses, all others are in `model_extra`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    category: Text | None = None
    tags: tuple[Text, ...] = ()


class Bus(Section):
    """The topics the plugin hears, and those it may publish on: none, unless it says so.

    It hears `subscribe` from the start, and what it subscribes to while it runs, which one of both lists has to cover.
    """

    subscribe: tuple[TopicField, ...] = ()
    may_subscribe: tuple[TopicField, ...] = ()
    publish: tuple[TopicField, ...] = ()


class Action(Section):
    """One action of the plugin; its schemas (JSON Schema, written as TOML tables) are compiled elsewhere."""

    description: Text | None = None
    request: Mapping[str, Any] | None = None
    response: Mapping[str, Any] | None = None


class Runtime(Section):
    """How the guest wants to be called. `abi` None: found out from the module.

    `args` and `streams` are for the ABI `wasi`: a program's arguments after its name, in which `{action}` stands for
    the action (None: that alone), and whether its stdin and stdout are JSON or text. `variables` is for the ABI
    `extism`: whether they live for one run, or are kept in the plugin's storage from one to the next.
    """

    abi: Abi | None = None
    snapshot: StrictBool = False
    args: Annotated[tuple[Argument, ...], Field(max_length=1_000)] | None = None
    streams: Literal["json", "text"] = "json"
    variables: Literal["run", "storage"] = "run"


class Retry(Section):
    """After which outcomes a request is tried again (`unavailable` always is), how often, and after what delays."""

    on: tuple[Retryable, ...] = ()
    max_attempts: Annotated[StrictInt, Field(ge=1, le=100)] = 5
    initial_delay_ms: Milliseconds = 1000
    max_delay_ms: Milliseconds = 60_000
    multiplier: Annotated[StrictFloat, Field(ge=1, le=100)] = 2.0
    jitter: Annotated[StrictFloat, Field(ge=0, le=1)] = 0.1

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_delay_ms < self.initial_delay_ms:
            raise ValueError(f"max_delay_ms ({self.max_delay_ms}) is below initial_delay_ms ({self.initial_delay_ms})")
        return self


class Rollout(Section):
    """How this version comes into use beside one that is loaded already: by and by, watched, or not at all.

    `percent` of the requests that either of them could serve go to it, or, as a `shadow`, are run by it as well, its
    answers only compared. `sticky` is what keeps a caller on one side: `message_id`, `correlation_id`, or the name of a
    header. It is rolled back once it is certain that its failures have risen by more than `max_failure_rise_points`
    percentage points, or that it uses more than `max_fuel_ratio` times the fuel; never before `min_requests` of its
    own. It is promoted (a shadow never, and none with `promote = "order"`) when `window_s` have gone by and both have
    had `min_requests`, and what was seen is within both limits. Answers that refuse (`failed`, `rejected`) count as
    failures with `count_refusals`.
    """

    percent: Annotated[StrictFloat, Field(ge=0.01, le=99)] = 10.0
    sticky: StickyKey = "message_id"
    shadow: StrictBool = False
    promote: Literal["auto", "order"] = "auto"
    min_requests: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 50
    window_s: Seconds = 300.0
    max_failure_rise_points: Annotated[StrictFloat, Field(ge=0, le=100)] = 5.0
    max_fuel_ratio: Annotated[StrictFloat, Field(ge=1, le=1_000_000)] = 2.0
    count_refusals: StrictBool = True


class Manifest(Section):
    """All that a plugin says about itself. Only `name` and `version` have to be there.

    `libraries` is the guest's own `[dependencies]`, for people; `settings` goes to the guest's `initialize`. Without
    `rollout` a version that is the highest gets all requests as soon as it is loaded.
    """

    name: Name
    version: VersionField
    description: Text = ""
    author: Text = ""
    license: Text = ""
    repository: Text | None = None
    documentation: Text | None = None
    min_runtime_version: VersionField | None = None
    dependencies: tuple[PluginDependency, ...] = ()
    capabilities: Capabilities = Capabilities()
    permissions: Permissions = Permissions()
    resources: Resources = Resources()
    libraries: Mapping[str, Library] = {}
    build: Build = Build()
    metadata: Metadata = Metadata()
    bus: Bus = Bus()
    actions: Mapping[ActionName, Action] = {}
    settings: Mapping[str, Any] = {}
    runtime: Runtime = Runtime()
    retry: Retry = Retry()
    rollout: Rollout | None = None
