"""Upgrades that would get more than their predecessor was granted wait until the operator has approved them.

The predecessor of a version is the same version, where that is known, or the next lower one, or else the lowest: among
those that are loaded, that come with it from the folder, or that were approved before. A plugin of which nothing is
known has none, and gets what the policy allows. A version that was approved is bound to the files that were: others,
whatever they would get, have to be approved in their turn.

It is decided before the module is compiled: whoever waits has not been run, not even for its `initialize`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from warren.manifests import Grant, Manifest, Policy, Powers, Widening, parse_version, widening

from .approvals import Approvals
from .checks import CheckedPlugin
from .errors import UpgradeParked
from .files import Identity, PluginFiles

#: A version of a plugin, and what it may do.
Known = tuple[Manifest, Grant]


@dataclass(frozen=True, slots=True)
class Review:
    """What a version would get that its `predecessor` has not; with no predecessor there is nothing to compare.

    `swapped`: that version was approved, with other files.
    """

    predecessor: str | None = None
    more: tuple[Widening, ...] = ()
    approved: bool = False
    swapped: bool = False

    @property
    def waits(self) -> bool:
        """Whether it has to be approved first."""
        return self.swapped or (bool(self.more) and not self.approved)


class Upgrades:
    """Parks what has to wait under one policy; nothing, where that names no folder of approvals."""

    def __init__(self, policy: Policy) -> None:
        self.approvals = None if policy.approvals is None else Approvals(Path(policy.approvals))

    def review(self, checked: CheckedPlugin, known: Iterable[Known]) -> Review:
        """`known` are the versions of the plugin that are loaded, or come with it."""
        if self.approvals is None:
            return Review()
        manifest = checked.manifest
        approvals = list(self.approvals.of(manifest.name))
        approved = self._admit(manifest, checked.digest)
        own = next((one for one in approvals if one.version == str(manifest.version)), None)
        swapped = own is not None and not approved
        # What was approved itself is no predecessor.
        versions = [(parse_version(one.version), one.powers) for one in approvals if swapped or one is not own]
        versions += [(one.version, Powers.of(granted)) for one, granted in known]
        versions.sort(key=lambda one: one[0])  # stable: of two alike, what was approved comes first
        not_above = [one for one in versions if one[0] <= manifest.version]
        if not versions:
            return Review(approved=approved)
        version, powers = not_above[-1] if not_above else versions[0]
        return Review(str(version), widening(powers, Powers.of(checked.grant)), approved, swapped)

    def check(self, files: PluginFiles, checked: CheckedPlugin, known: Iterable[Known]) -> None:
        """Raises `UpgradeParked` when it has to wait."""
        review = self.review(checked, known)
        if review.waits and review.predecessor is not None:
            raise UpgradeParked(
                str(files.manifest),
                checked.manifest,
                checked.grant,
                digest=checked.digest,
                predecessor=review.predecessor,
                more=review.more,
            )

    def has_approved(self, parked: UpgradeParked) -> bool:
        """Whether it has been approved meanwhile."""
        return self._admit(parked.manifest, parked.digest)

    def _admit(self, manifest: Manifest, digest: bytes) -> bool:
        identity = Identity(manifest.name, str(manifest.version))
        return self.approvals is not None and self.approvals.admit(identity, digest)


def review_all(upgrades: Upgrades, versions: Sequence[CheckedPlugin]) -> list[tuple[CheckedPlugin, Review]]:
    """Versions of one plugin, the lowest first, as they would be taken by who knows of none: each after those below."""
    known: list[Known] = []
    reviewed: list[tuple[CheckedPlugin, Review]] = []
    for checked in sorted(versions, key=lambda one: one.manifest.version):
        review = upgrades.review(checked, known)
        if not review.waits:
            known.append((checked.manifest, checked.grant))
        reviewed.append((checked, review))
    return reviewed
