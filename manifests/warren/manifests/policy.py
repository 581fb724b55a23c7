"""What the operator allows, and what a plugin gets of what it asks for: a pure function of the two.

A plugin that asks for nothing gets the default limits, raised by the capabilities it is granted; one that asks gets
what it asked for; nobody gets more than the operator's ceilings. What else it asks for it gets where the policy, or a
rule of it for plugins of that name, covers it (see `coverage`); the rest is left out, and noted.

Rejected: rules that forbid. With them the order of rules would matter, and one that is forgotten would allow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Final, TypedDict, TypeVar

from semver import Version

from .coverage import covers_glob, covers_host, covers_topic
from .errors import GrantRefused
from .manifest import Capability, Manifest, Permissions, PluginDependency
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
RESOURCES: Final = (
    ("memory_mb", "memory_bytes", MIB),
    ("max_fuel", "max_fuel", 1),
    ("timeout_seconds", "timeout_s", 1),
    ("max_open_files", "max_open_files", 1),
    ("max_network_connections", "max_network_connections", 1),
    ("network_timeout_seconds", "network_timeout_s", 1),
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Allowance:
    """What may be granted. None stands for all that a manifest asks for.

    Files and hosts are as a manifest writes them, private networks CIDR blocks.
    """

    capabilities: frozenset[Capability] = frozenset()
    read_files: tuple[str, ...] | None = ()
    write_files: tuple[str, ...] | None = ()
    network_hosts: tuple[str, ...] | None = ()
    private_networks: tuple[str, ...] = ()
    environment_vars: frozenset[str] = frozenset()
    publish: tuple[TopicPattern, ...] | None = ()
    subscribe: tuple[TopicPattern, ...] | None = ()

    def __or__(self, other: Allowance) -> Allowance:
        """What either of the two allows."""
        return Allowance(
            self.capabilities | other.capabilities,
            _either(self.read_files, other.read_files),
            _either(self.write_files, other.write_files),
            _either(self.network_hosts, other.network_hosts),
            self.private_networks + other.private_networks,
            self.environment_vars | other.environment_vars,
            _either(self.publish, other.publish),
            _either(self.subscribe, other.subscribe),
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """What is allowed to plugins of certain names, over and above what is to all.

    `plugins` are patterns as the shell has them (`text_*`). `ceilings` take the place of the policy's own; where
    several rules have one for the same plugin, the last does.
    """

    plugins: tuple[str, ...]
    allowed: Allowance = Allowance()
    ceilings: SomeLimits = field(default_factory=SomeLimits)

    def is_for(self, plugin: str) -> bool:
        return any(fnmatchcase(plugin, pattern) for pattern in self.plugins)


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A plugin is run no more once `refused_runs` of its runs were refused a power within `window_s`."""

    refused_runs: int = 10
    window_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator allows: capabilities, what may be reached by means of them, and ceilings.

    Without rules a plugin may reach what its manifest names, as far as it is granted the capability. `limits` are the
    ceilings of a plugin without capabilities; `capability_limits` raise some of them for a plugin that has been granted
    the capability. `defaults` and `capability_defaults` are the same for one that asks for nothing.

    With `strict` no optional capability is granted. `approvals` is the folder of what has been approved: where it is
    named, an upgrade that would get more than its predecessor has waits for that.
    """

    capabilities: frozenset[Capability] = frozenset[Capability]({"compute"})
    environment_vars: frozenset[str] = frozenset()
    limits: Limits = Limits()
    capability_limits: Mapping[Capability, SomeLimits] = field(default_factory=lambda: CAPABILITY_LIMITS)
    defaults: Limits = Limits()
    capability_defaults: Mapping[Capability, SomeLimits] = field(default_factory=lambda: CAPABILITY_LIMITS)
    rules: tuple[Rule, ...] | None = None
    strict: bool = False
    approvals: str | None = None
    quarantine: Quarantine | None = None

    def allowed_to(self, plugin: str) -> Allowance:
        """What may be granted to the plugin of that name."""
        if self.rules is None:
            return replace(_AS_ASKED, capabilities=self.capabilities, environment_vars=self.environment_vars)
        allowed = Allowance(self.capabilities, environment_vars=self.environment_vars)
        for rule in self.rules:
            if rule.is_for(plugin):
                allowed |= rule.allowed
        return allowed

    def ceilings_of(self, plugin: str, granted: frozenset[Capability]) -> Limits:
        """The most that the plugin of that name can have with these capabilities."""
        ceiling = _raised(self.limits, self.capability_limits, granted)
        for rule in self.rules or ():
            if rule.is_for(plugin):
                ceiling = replace(ceiling, **rule.ceilings)
        return ceiling


_AS_ASKED: Final = Allowance(read_files=None, write_files=None, network_hosts=None, publish=None, subscribe=None)

_NOTHING: Final = Permissions()


@dataclass(frozen=True, slots=True)
class Withheld:
    """One thing that a plugin asks for and does not get, and why: `power` is the key in its manifest."""

    power: str
    asked: str
    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class Grant:
    """What one plugin may do under one policy. `withheld` is what it asked for and did not get.

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
    may_subscribe: tuple[TopicPattern, ...] = ()
    dependencies: tuple[PluginDependency, ...] = ()
    withheld: tuple[Withheld, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What it asked for and did not get, in sentences."""
        return tuple(map(str, self.withheld))

    def may_publish(self, topic: str) -> bool:
        """Whether `topic` is well formed and among those granted."""
        return is_topic(topic) and any(pattern.matches(topic) for pattern in self.publish)

    def may_hear(self, topic: str) -> bool:
        """Whether events on `topic` may reach the plugin."""
        return any(pattern.matches(topic) for pattern in (*self.subscribe, *self.may_subscribe))

    def may_bind(self, pattern: TopicPattern) -> bool:
        """Whether the plugin may subscribe to all of `pattern`: one that it was granted covers it."""
        return any(covers_topic(granted, pattern) for granted in (*self.subscribe, *self.may_subscribe))

    def may_call(self, plugin: str) -> VersionReq | None:
        """The versions of `plugin` that this one may call; None when it may call none."""
        return next((one.version_req for one in self.dependencies if one.name == plugin), None)


def grant(manifest: Manifest, policy: Policy, runtime_version: Version) -> Grant:
    """Raises `GrantRefused` when the plugin cannot do with what it would get."""
    allowed = policy.allowed_to(manifest.name)
    if reasons := _refusals(manifest, allowed, runtime_version):
        raise GrantRefused(manifest.name, reasons)
    asked, permissions = manifest.capabilities, manifest.permissions
    granted = allowed.capabilities.intersection(asked.required + (() if policy.strict else asked.optional))
    withheld = [
        Withheld("capabilities", name, f"the capability {name!r} is not granted{_strictly(name, policy, allowed)}")
        for name in asked.optional
        if name not in granted
    ]
    variables = tuple(name for name in permissions.environment_vars if name in allowed.environment_vars)
    withheld += [
        Withheld("environment_vars", name, f"{name} is not passed on")
        for name in permissions.environment_vars
        if name not in variables
    ]
    files = permissions if "filesystem" in granted else _NOTHING
    network = permissions if "network" in granted else _NOTHING
    limits, lowered = _limits(manifest, policy, granted)
    return Grant(
        plugin=manifest.name,
        capabilities=granted,
        limits=limits,
        read_files=_granted("read_files", files.read_files, allowed.read_files, covers_glob, withheld),
        write_files=_granted("write_files", files.write_files, allowed.write_files, covers_glob, withheld),
        network_hosts=_granted("network_hosts", network.network_hosts, allowed.network_hosts, covers_host, withheld),
        private_networks=allowed.private_networks if "network" in granted else (),
        environment_vars=variables,
        publish=_granted("publish", manifest.bus.publish, allowed.publish, covers_topic, withheld),
        subscribe=_granted("subscribe", manifest.bus.subscribe, allowed.subscribe, covers_topic, withheld),
        may_subscribe=_granted("may_subscribe", manifest.bus.may_subscribe, allowed.subscribe, covers_topic, withheld),
        dependencies=manifest.dependencies,
        withheld=(*withheld, *lowered),  # the last, for those above have added theirs
    )


def _refusals(manifest: Manifest, allowed: Allowance, runtime_version: Version) -> list[str]:
    needed = manifest.min_runtime_version
    reasons = [
        f"it requires the capability {name!r}, which is not granted here"
        for name in manifest.capabilities.required
        if name not in allowed.capabilities
    ]
    if needed is not None and needed > runtime_version:
        reasons.append(f"it needs Warren {needed} or newer, and this is {runtime_version}")
    return reasons


def _strictly(name: Capability, policy: Policy, allowed: Allowance) -> str:
    return ": it is optional, and the policy is strict" if policy.strict and name in allowed.capabilities else ""


def _granted(
    power: str,
    asked: tuple[T, ...],
    allowed: tuple[T, ...] | None,
    covers: Callable[[T, T], bool],
    withheld: list[Withheld],
) -> tuple[T, ...]:
    """What of `asked` is covered by what is `allowed`; the rest is `withheld`."""
    if allowed is None:
        return asked
    given = tuple(one for one in asked if any(covers(other, one) for other in allowed))
    withheld += [
        Withheld(power, str(one), f"{power}: {str(one)!r} is not granted: nothing that the policy allows covers it")
        for one in asked
        if one not in given
    ]
    return given


def _either(one: tuple[T, ...] | None, other: tuple[T, ...] | None) -> tuple[T, ...] | None:
    return None if one is None or other is None else one + other


def _limits(manifest: Manifest, policy: Policy, granted: frozenset[Capability]) -> tuple[Limits, list[Withheld]]:
    asked: dict[str, Any] = {}
    lowered: list[Withheld] = []
    ceiling = policy.ceilings_of(manifest.name, granted)
    for key, limit, unit in RESOURCES:
        if (value := getattr(manifest.resources, key)) is not None:
            asked[limit] = value * unit
            if asked[limit] > (most := getattr(ceiling, limit)):
                reason = f"{key} is {most / unit:,.16g}, not the {value:,.16g} asked for"
                lowered.append(Withheld(key, f"{value:,.16g}", reason))
    wanted = replace(_raised(policy.defaults, policy.capability_defaults, granted), **asked)
    return wanted.within(ceiling), lowered


def _raised(base: Limits, by_capability: Mapping[Capability, SomeLimits], granted: frozenset[Capability]) -> Limits:
    """`base`, each limit raised to the highest that a granted capability has."""
    raised: dict[str, Any] = {}
    for capability in granted:
        limits: Mapping[str, Any] = by_capability.get(capability, SomeLimits())
        for name, value in limits.items():
            raised[name] = max(value, raised.get(name, getattr(base, name)))
    return replace(base, **raised)
