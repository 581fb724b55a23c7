"""Upgrades that would get more than their predecessor was granted wait until the operator has approved them.

The predecessor of a version is the same version, where that is known, or the next lower one, or else the lowest: among
those that are loaded, that come with it from the folder, or that were approved before. A plugin of which nothing is
known has none, and gets what the policy allows.

It is decided before the module is compiled: whoever waits has not been run, not even for its `initialize`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from warren.manifests import Grant, Manifest, Policy, Powers, Version, parse_version, widening

from .approvals import Approvals
from .checks import CheckedPlugin
from .errors import UpgradeParked
from .files import Identity, PluginFiles

#: A version that is known, and what it may do.
Known = tuple[Version, Powers]


class Upgrades:
    """Parks what has to wait under one policy; nothing, where that names no folder of approvals."""

    def __init__(self, policy: Policy) -> None:
        self._approvals = None if policy.approvals is None else Approvals(Path(policy.approvals))

    def check(self, files: PluginFiles, checked: CheckedPlugin, known: Iterable[tuple[Manifest, Grant]]) -> None:
        """Raises `UpgradeParked`. `known` are the versions of the plugin that are loaded, or come with it."""
        if self._approvals is None:
            return
        manifest, powers = checked.manifest, Powers.of(checked.grant)
        versions = [(one.version, Powers.of(granted)) for one, granted in known]
        predecessor = predecessor_of(manifest, versions, self._approvals)
        if predecessor is None:
            return
        more = widening(predecessor[1], powers)
        if more and not self._admits(manifest, checked.digest):
            source = str(files.manifest)
            raise UpgradeParked(source, manifest, checked.grant, checked.digest, str(predecessor[0]), more)

    def has_approved(self, parked: UpgradeParked) -> bool:
        """Whether it has been approved meanwhile."""
        return self._admits(parked.manifest, parked.digest)

    def _admits(self, manifest: Manifest, digest: bytes) -> bool:
        identity = Identity(manifest.name, str(manifest.version))
        return self._approvals is not None and self._approvals.admit(identity, digest)


def predecessor_of(manifest: Manifest, known: Iterable[Known], approvals: Approvals) -> Known | None:
    """The version that `manifest` comes after, or takes the place of."""
    approved = ((parse_version(one.version), one.powers) for one in approvals.of(manifest.name))
    versions = sorted([*approved, *known], key=lambda one: one[0])  # stable: of two alike the known one is the later
    not_above = [one for one in versions if one[0] <= manifest.version]
    return not_above[-1] if not_above else next(iter(versions), None)
