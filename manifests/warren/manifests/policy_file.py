"""The operator's policy as TOML, checked as strictly as a manifest: what is misspelt must not allow, nor forbid.

    strict = true                       # no optional capability is granted
    capabilities = ["compute"]          # what any plugin may have; this, where it is left out
    approvals = "approvals"             # the folder of approvals, seen from this file
    upgrades = "approve"                # or "allow": an upgrade may get more without being approved

    [ceilings]                          # the most that anybody gets, in the units of a manifest's [resources]
    memory_mb = 128

    [defaults]                          # what those get who ask for nothing
    timeout_seconds = 5

    [quarantine]                        # who is refused too often is run no more
    refused_runs = 10
    window_seconds = 60

    [[rules]]                           # what plugins of these names may have besides
    plugins = ["text_*"]
    capabilities = ["network"]
    network_hosts = ["*.example.com"]

What is written in `[ceilings]` is meant: no capability raises it, as one does the ceilings that are not written. Only a
rule's own ceilings do. With a file, nothing but computing is allowed that no rule allows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Annotated, Final, Literal, cast

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr

from .document import read_document
from .errors import ManifestError, PolicyError
from .forms import Form
from .manifest import Capability, Glob, Host, Resources, Seconds, Section, TopicField, Variable
from .parse import validated
from .policy import CAPABILITY_LIMITS, MIB, RESOURCES, Allowance, Limits, Policy, Quarantine, Rule, SomeLimits

#: Where approvals are kept when the policy does not say: beside it.
APPROVALS: Final = "approvals"

#: As `policy.RESOURCES`, with what no manifest asks for.
_RESOURCES: Final = (*RESOURCES, ("storage_mb", "storage_bytes", MIB), ("files_mb", "files_bytes", MIB))

_NAME_PATTERN = re.compile(r"[a-z0-9_*?\[\]!-]+")

_TIB_IN_MIB: Final = 1 << 20


def _name_pattern(text: str) -> str:
    if not _NAME_PATTERN.fullmatch(text):
        raise ValueError("a pattern of plugins' names has a-z, 0-9, '_', '-', and '*', '?' or '[...]' for others")
    return text


def _private_network(text: str) -> str:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError("a network is written as a CIDR block, like '10.0.0.0/8' or 'fd00::/8'") from None
    if "/" not in text or network.with_prefixlen != text.lower():
        raise ValueError(f"write the network as '{network}'")
    return str(network)


def _path(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("this is not the path of a folder")
    return text


def _at_least_one(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if not patterns:
        raise ValueError("a rule is for plugins of at least one name; '*' stands for all")
    return patterns


NamePattern = Annotated[StrictStr, AfterValidator(_name_pattern)]
PrivateNetwork = Annotated[StrictStr, AfterValidator(_private_network)]


class ResourceTable(Resources):
    """`[resources]` of a manifest, and what plugins may keep, in MiB."""

    storage_mb: Annotated[StrictInt, Field(ge=0, le=_TIB_IN_MIB)] | None = None
    files_mb: Annotated[StrictInt, Field(ge=0, le=_TIB_IN_MIB)] | None = None


class QuarantineTable(Section):
    refused_runs: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 10
    window_seconds: Seconds = 60.0

    def rule(self) -> Quarantine:
        return Quarantine(self.refused_runs, self.window_seconds)


class RuleTable(Section):
    plugins: Annotated[tuple[NamePattern, ...], AfterValidator(_at_least_one)]
    capabilities: tuple[Capability, ...] = ()
    read_files: tuple[Glob, ...] = ()
    write_files: tuple[Glob, ...] = ()
    network_hosts: tuple[Host, ...] = ()
    private_networks: tuple[PrivateNetwork, ...] = ()
    environment_vars: tuple[Variable, ...] = ()
    publish: tuple[TopicField, ...] = ()
    subscribe: tuple[TopicField, ...] = ()
    ceilings: ResourceTable = ResourceTable()


class PolicyTable(Section):
    strict: StrictBool = False
    capabilities: tuple[Capability, ...] = ("compute",)
    approvals: Annotated[StrictStr, AfterValidator(_path)] = APPROVALS
    upgrades: Literal["approve", "allow"] = "approve"
    defaults: ResourceTable = ResourceTable()
    ceilings: ResourceTable = ResourceTable()
    quarantine: QuarantineTable | None = None
    rules: tuple[RuleTable, ...] = ()


def parse_policy(data: bytes, source: str = "policy") -> Policy:
    """Read a policy. `source` names it in messages: its path. Raises `PolicyError` with all problems found."""
    try:
        document = read_document(data, source)
        table = validated(PolicyTable, Form(document.tables, {}, {}, ()), document)
    except ManifestError as error:
        raise PolicyError(error.problems) from None
    defaults, ceilings = _some_limits(table.defaults), _some_limits(table.ceilings)
    return Policy(
        capabilities=frozenset(table.capabilities),
        limits=Limits(**ceilings),
        capability_limits=_but_for(ceilings),
        defaults=Limits(**defaults),
        capability_defaults=_but_for(defaults),
        rules=tuple(map(_rule, table.rules)),
        strict=table.strict,
        approvals=table.approvals if table.upgrades == "approve" else None,
        quarantine=None if table.quarantine is None else table.quarantine.rule(),
    )


def _rule(table: RuleTable) -> Rule:
    allowed = Allowance(
        frozenset(table.capabilities),
        table.read_files,
        table.write_files,
        table.network_hosts,
        table.private_networks,
        frozenset(table.environment_vars),
        table.publish,
        table.subscribe,
    )
    return Rule(table.plugins, allowed, _some_limits(table.ceilings))


def _some_limits(table: ResourceTable) -> SomeLimits:
    """Those that are written."""
    written = {limit: value * unit for key, limit, unit in _RESOURCES if (value := getattr(table, key)) is not None}
    return cast("SomeLimits", written)


def _but_for(written: SomeLimits) -> Mapping[Capability, SomeLimits]:
    """What capabilities raise, but for what is `written`."""
    return {
        capability: cast("SomeLimits", {name: value for name, value in raised.items() if name not in written})
        for capability, raised in CAPABILITY_LIMITS.items()
    }
