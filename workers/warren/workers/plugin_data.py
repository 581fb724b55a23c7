"""A plugin as data for people and programs: what of its manifest and its grant is anybody's to know."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, Final

from warren.manifests import Grant, Manifest

#: Fields of a grant that are shown under names of their own; all others are permissions.
_NO_PERMISSIONS: Final = frozenset(
    {"plugin", "capabilities", "limits", "publish", "subscribe", "dependencies", "withheld"}
)


def public_data(manifest: Manifest, grant: Grant) -> dict[str, Any]:
    """What `warren plugins show --json` and `warren inspect --json` tell. Settings' values may be secret."""
    return {
        "name": manifest.name,
        "version": str(manifest.version),
        "description": manifest.description,
        "author": manifest.author,
        "license": manifest.license,
        "actions": {name: action.model_dump() for name, action in manifest.actions.items()},
        "grant": {
            "capabilities": sorted(grant.capabilities),
            "permissions": permissions(grant),
            "limits": asdict(grant.limits),
            "notes": grant.notes,
        },
        "subscribe": [str(pattern) for pattern in grant.subscribe],
        "publish": [str(pattern) for pattern in grant.publish],
        "dependencies": [dependency.model_dump() for dependency in manifest.dependencies],
        "settings": list(manifest.settings),
        "retry": manifest.retry.model_dump(),
        "rollout": manifest.rollout and manifest.rollout.model_dump(),
    }


def permissions(grant: Grant) -> dict[str, Any]:
    return {field.name: getattr(grant, field.name) for field in fields(grant) if field.name not in _NO_PERMISSIONS}
