"""What a plugin says about itself, and what it is allowed: pure functions from bytes to data, without any I/O library.

    parse_manifest(bytes, source) -> Manifest     or a ManifestError: every problem, with its file, line and key
    grant(manifest, policy, runtime_version) -> Grant      or GrantRefused: what it needs is not given here
    unannounced_changes(old, new) -> BreakingChange, ...   what breaks callers without the version saying so

Versions are semantic versions (`semver.Version`); requirements on them (`VersionReq`) have Cargo's meaning, and topic
patterns (`TopicPattern`) RabbitMQ's. Everything that a manifest can be refused for is refused here, before a byte of
wasm is read. Reading files, compiling JSON Schemas and enforcing a grant are the business of `warren.plugins`.
"""

from semver import Version

from .compatibility import BreakingChange, breaking_changes, unannounced_changes
from .errors import GrantRefused, InvalidValue, ManifestError, Problem
from .manifest import (
    Abi,
    Action,
    Build,
    Bus,
    Capabilities,
    Capability,
    Manifest,
    Metadata,
    Permissions,
    PluginDependency,
    Resources,
    Retry,
    Retryable,
    Runtime,
    is_plugin_name,
)
from .parse import parse_manifest
from .policy import Grant, Limits, Policy, SomeLimits, grant
from .topics import TopicPattern, is_topic
from .versions import Comparator, VersionReq, next_incompatible, parse_version, runtime_version

__all__ = [
    "Abi",
    "Action",
    "BreakingChange",
    "Build",
    "Bus",
    "Capabilities",
    "Capability",
    "Comparator",
    "Grant",
    "GrantRefused",
    "InvalidValue",
    "Limits",
    "Manifest",
    "ManifestError",
    "Metadata",
    "Permissions",
    "PluginDependency",
    "Policy",
    "Problem",
    "Resources",
    "Retry",
    "Retryable",
    "Runtime",
    "SomeLimits",
    "TopicPattern",
    "Version",
    "VersionReq",
    "breaking_changes",
    "grant",
    "is_plugin_name",
    "is_topic",
    "next_incompatible",
    "parse_manifest",
    "parse_version",
    "runtime_version",
    "unannounced_changes",
]
