"""What the operator allows, and what a plugin gets of what it asks for: a pure function of the two.

A plugin that asks for nothing gets the defaults, raised by the capabilities it is granted; one that asks gets what it
asked for; nobody gets more than the operator's ceilings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, TypedDict

from semver import Version

from .errors import GrantRefused
from .manifest import Capability, Manifest, PluginDependency, Resources
from .topics import TopicPattern, is_topic
from .versions import VersionReq

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one run. `network_timeout_s` is for one host call, `timeout_s` for the run with all of them.

    `storage_bytes` and `files_bytes` bound what all runs of a plugin keep: in its storage, and in its own directory.
    """

    memory_bytes: int = 64 * MIB
    max_fuel: int = 10_000_000
    timeout_s: float = 30.0
    max_open_files: int = 10
    max_network_connections: int = 5
    network_timeout_s: float = 30.0
    storage_bytes: int = 100 * MIB
    files_bytes: int = 100 * MIB

    def within(self, ceiling: Limits) -> Limits:
        """The lower of the two, each limit for itself."""
        return Limits(
            memory_bytes=min(self.memory_bytes, ceiling.memory_bytes),
            max_fuel=min(self.max_fuel, ceiling.max_fuel),
            timeout_s=min(self.timeout_s, ceiling.timeout_s),
            max_open_files=min(self.max_open_files, ceiling.max_open_files),
            max_network_connections=min(self.max_network_connections, ceiling.max_network_connections),
            network_timeout_s=min(self.network_timeout_s, ceiling.network_timeout_s),
            storage_bytes=min(self.storage_bytes, ceiling.storage_bytes),
            files_bytes=min(self.files_bytes, ceiling.files_bytes),
        )


class SomeLimits(TypedDict, total=False):
    """Those of the `Limits` that are meant; the others stay."""

    memory_bytes: int
    max_fuel: int
    timeout_s: float
    max_open_files: int
    max_network_connections: int
    network_timeout_s: float
    storage_bytes: int
    files_bytes: int


#: What capabilities need by their nature: computing takes memory and fuel, talking takes connections and patience.
CAPABILITY_LIMITS: Final[Mapping[Capability, SomeLimits]] = MappingProxyType(
    {
        "compute": SomeLimits(memory_bytes=256 * MIB, max_fuel=100_000_000),
        "network": SomeLimits(max_network_connections=20, network_timeout_s=60.0),
    }
)

#: Key in `[resources]`, the limit it asks for, and the one's unit in the other's.
_RESOURCES: Final = (
    ("memory_mb", "memory_bytes", MIB),
    ("max_fuel", "max_fuel", 1),
    ("timeout_seconds", "timeout_s", 1),
    ("max_open_files", "max_open_files", 1),
    ("max_network_connections", "max_network_connections", 1),
    ("network_timeout_seconds", "network_timeout_s", 1),
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator allows: capabilities, environment variables, and ceilings.

    `limits` are the ceilings of a plugin without capabilities; `capability_limits` raise some of them for a plugin that
    has been granted the capability.
    """

    capabilities: frozenset[Capability] = frozenset[Capability]({"compute"})
    environment_vars: frozenset[str] = frozenset()
    limits: Limits = Limits()
    capability_limits: Mapping[Capability, SomeLimits] = field(default_factory=lambda: CAPABILITY_LIMITS)


@dataclass(frozen=True, slots=True)
class Grant:
    """What one plugin may do under one policy. `notes` say in sentences what it asked for and did not get.

    Files are globs below the plugin's own directory, and hosts as `permissions.network_host` writes them. Hosts may
    have public addresses only, and those in `private_networks` (CIDR blocks).
    """

    plugin: str
    capabilities: frozenset[Capability]
    limits: Limits
    read_files: tuple[str, ...] = ()
    write_files: tuple[str, ...] = ()
    network_hosts: tuple[str, ...] = ()
    private_networks: tuple[str, ...] = ()
    environment_vars: tuple[str, ...] = ()
    publish: tuple[TopicPattern, ...] = ()
    subscribe: tuple[TopicPattern, ...] = ()
    dependencies: tuple[PluginDependency, ...] = ()
    notes: tuple[str, ...] = ()

    def may_publish(self, topic: str) -> bool:
        """Whether `topic` is well formed and among those the manifest lists."""
        return is_topic(topic) and any(pattern.matches(topic) for pattern in self.publish)

    def may_call(self, plugin: str) -> VersionReq | None:
        """The versions of `plugin` that this one may call; None when it may call none."""
        return next((one.version_req for one in self.dependencies if one.name == plugin), None)


def grant(manifest: Manifest, policy: Policy, runtime_version: Version) -> Grant:
    """Raises `GrantRefused` when the plugin cannot do with what it would get."""
    if reasons := _refusals(manifest, policy, runtime_version):
        raise GrantRefused(manifest.name, reasons)
    asked = manifest.capabilities
    granted = policy.capabilities.intersection(asked.required + asked.optional)
    limits, lowered = _limits(manifest.resources, policy, granted)
    permissions = manifest.permissions
    variables = permissions.environment_vars
    left_out = [f"the capability {name!r} is not granted" for name in asked.optional if name not in granted]
    hidden = [f"{name} is not passed on" for name in variables if name not in policy.environment_vars]
    return Grant(
        plugin=manifest.name,
        capabilities=granted,
        limits=limits,
        read_files=permissions.read_files if "filesystem" in granted else (),
        write_files=permissions.write_files if "filesystem" in granted else (),
        network_hosts=permissions.network_hosts if "network" in granted else (),
        environment_vars=tuple(name for name in variables if name in policy.environment_vars),
        publish=manifest.bus.publish,
        subscribe=manifest.bus.subscribe,
        dependencies=manifest.dependencies,
        notes=(*left_out, *hidden, *lowered),
    )


def _refusals(manifest: Manifest, policy: Policy, runtime_version: Version) -> list[str]:
    needed = manifest.min_runtime_version
    reasons = [
        f"it requires the capability {name!r}, which is not granted here"
        for name in manifest.capabilities.required
        if name not in policy.capabilities
    ]
    if needed is not None and needed > runtime_version:
        reasons.append(f"it needs Warren {needed} or newer, and this is {runtime_version}")
    return reasons


def _limits(resources: Resources, policy: Policy, granted: frozenset[Capability]) -> tuple[Limits, list[str]]:
    asked: dict[str, Any] = {}
    notes: list[str] = []
    ceiling = _raised(policy.limits, policy.capability_limits, granted)
    for key, limit, unit in _RESOURCES:
        if (value := getattr(resources, key)) is not None:
            asked[limit] = value * unit
            if asked[limit] > (most := getattr(ceiling, limit)):
                notes.append(f"{key} is {most / unit:,.16g}, not the {value:,.16g} asked for")
    wanted = replace(_raised(Limits(), CAPABILITY_LIMITS, granted), **asked)
    return wanted.within(ceiling), notes


def _raised(base: Limits, by_capability: Mapping[Capability, SomeLimits], granted: frozenset[Capability]) -> Limits:
    """`base`, each limit raised to the highest that a granted capability has."""
    raised: dict[str, Any] = {}
    for capability in granted:
        limits: Mapping[str, Any] = by_capability.get(capability, SomeLimits())
        for name, value in limits.items():
            raised[name] = max(value, raised.get(name, getattr(base, name)))
    return replace(base, **raised)
