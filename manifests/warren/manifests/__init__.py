"""What a plugin says about itself, and what it is allowed: pure functions from bytes to data, without any I/O library.

    parse_manifest(bytes, source) -> Manifest     or a ManifestError: every problem, with its file, line and key
    grant(manifest, policy, runtime_version) -> Grant      or GrantRefused: what it needs is not given here
    parse_policy(bytes, source) -> Policy         or a PolicyError, in the same way
    widening(old, new) -> Widening, ...           what an upgrade would get that its predecessor did not
    resolve(wanted, manifests) -> Resolution               or a ResolutionError: what cannot be had together
    load_order(manifests) -> LoadOrder                     all versions side by side; who cannot be loaded is in it
    dependants(leaving, loaded) -> manifests               who has to go first, in this order
    unannounced_changes(old, new) -> BreakingChange, ...   what breaks callers without the version saying so

Versions are semantic versions (`semver.Version`); requirements on them (`VersionReq`) have Cargo's meaning, and topic
patterns (`TopicPattern`) RabbitMQ's. Everything that a manifest can be refused for is refused here, before a byte of
wasm is read. `resolve` chooses one version of each plugin, the highest that go together by the law in `resolution.py`;
its errors name the conflict, and the demands that make it inevitable. Reading files, loading plugins, compiling JSON
Schemas and enforcing a grant are the business of `warren.plugins`.
"""

from semver import Version

from .compatibility import BreakingChange, breaking_changes, unannounced_changes
from .demands import Demand, PluginVersion
from .errors import (
    DependencyCycle,
    DependencyMissing,
    GrantRefused,
    InvalidValue,
    ManifestError,
    NoVersionMatches,
    PolicyError,
    Problem,
    ResolutionError,
    ResolutionGivenUp,
    VersionConflict,
)
from .loading import LoadOrder, Refused, dependants, load_order
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
    Rollout,
    Runtime,
    is_action_name,
    is_plugin_name,
)
from .parse import parse_manifest
from .policy import Allowance, Grant, Limits, Policy, Quarantine, Rule, SomeLimits, Withheld, grant
from .policy_file import parse_policy
from .resolution import LeftOut, Resolution, resolve
from .topics import TopicPattern, is_topic
from .versions import Comparator, VersionReq, next_incompatible, parse_version, runtime_version
from .widening import NO_POWERS, Powers, Widening, widening

__all__ = [
    "NO_POWERS",
    "Abi",
    "Action",
    "Allowance",
    "BreakingChange",
    "Build",
    "Bus",
    "Capabilities",
    "Capability",
    "Comparator",
    "Demand",
    "DependencyCycle",
    "DependencyMissing",
    "Grant",
    "GrantRefused",
    "InvalidValue",
    "LeftOut",
    "Limits",
    "LoadOrder",
    "Manifest",
    "ManifestError",
    "Metadata",
    "NoVersionMatches",
    "Permissions",
    "PluginDependency",
    "PluginVersion",
    "Policy",
    "PolicyError",
    "Powers",
    "Problem",
    "Quarantine",
    "Refused",
    "Resolution",
    "ResolutionError",
    "ResolutionGivenUp",
    "Resources",
    "Retry",
    "Retryable",
    "Rollout",
    "Rule",
    "Runtime",
    "SomeLimits",
    "TopicPattern",
    "Version",
    "VersionConflict",
    "VersionReq",
    "Widening",
    "Withheld",
    "breaking_changes",
    "dependants",
    "grant",
    "is_action_name",
    "is_plugin_name",
    "is_topic",
    "load_order",
    "next_incompatible",
    "parse_manifest",
    "parse_policy",
    "parse_version",
    "resolve",
    "runtime_version",
    "unannounced_changes",
    "widening",
]
