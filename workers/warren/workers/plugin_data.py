"""A plugin as data for people and programs: what of its manifest and its grant is anybody's to know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any, Final

from warren.manifests import Capability, Grant, Manifest, Withheld

#: Fields of a grant that are shown under names of their own; all others are permissions.
_NO_PERMISSIONS: Final = frozenset(
    {"plugin", "capabilities", "limits", "publish", "subscribe", "may_subscribe", "dependencies", "withheld"}
)

#: Permissions that mean nothing without a capability.
_NEEDS: Final[Mapping[str, Capability]] = {
    "read_files": "filesystem",
    "write_files": "filesystem",
    "network_hosts": "network",
}


def public_data(manifest: Manifest, grant: Grant) -> dict[str, Any]:
    """What `warren plugins show --json` and `warren inspect --json` tell. Settings' values may be secret."""
    return {
        "name": manifest.name,
        "version": str(manifest.version),
        "description": manifest.description,
        "author": manifest.author,
        "license": manifest.license,
        "actions": {name: action.model_dump() for name, action in manifest.actions.items()},
        "asked": asked(manifest),
        "grant": {
            "capabilities": sorted(grant.capabilities),
            "permissions": permissions(grant),
            "limits": asdict(grant.limits),
            "left_out": [asdict(one) for one in left_out(manifest, grant)],
            "notes": grant.notes,
        },
        "subscribe": [str(pattern) for pattern in grant.subscribe],
        "may_subscribe": [str(pattern) for pattern in grant.may_subscribe],
        "publish": [str(pattern) for pattern in grant.publish],
        "dependencies": [dependency.model_dump() for dependency in manifest.dependencies],
        "settings": list(manifest.settings),
        "retry": manifest.retry.model_dump(),
        "rollout": manifest.rollout and manifest.rollout.model_dump(),
    }


def permissions(grant: Grant) -> dict[str, Any]:
    return {field.name: getattr(grant, field.name) for field in fields(grant) if field.name not in _NO_PERMISSIONS}


def asked(manifest: Manifest) -> dict[str, Any]:
    """What the manifest asks for, whether or not it is granted."""
    return {
        "capabilities": manifest.capabilities.model_dump(mode="json"),
        "permissions": manifest.permissions.model_dump(mode="json", exclude={"system_calls"}),
        "resources": manifest.resources.model_dump(mode="json", exclude_none=True),
        **manifest.bus.model_dump(mode="json", include={"publish", "subscribe", "may_subscribe"}),
    }


def left_out(manifest: Manifest, grant: Grant) -> tuple[Withheld, ...]:
    """All of it that is not granted, each with the reason; the grant's notes, and what they say implicitly."""
    return (*grant.withheld, *_idle(manifest, grant))


def _idle(manifest: Manifest, grant: Grant) -> Iterator[Withheld]:
    for power, capability in _NEEDS.items():
        if capability not in grant.capabilities:
            for one in getattr(manifest.permissions, power):
                yield Withheld(power, one, f"{power}: {one!r} is of no use without the capability {capability!r}")
