"""Whether a plugin fits to those that are loaded: it has what it needs, takes nothing from others, breaks no callers.

Pure functions of manifests, with the resolver's and the schemas' words for what is wrong. All that is refused here may
pass another time, when other plugins are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

from warren.manifests import Manifest, dependants, load_order, unannounced_changes


def unmet_needs(manifest: Manifest, loaded: Sequence[Manifest]) -> str | None:
    """What it needs and is not `loaded`, in a sentence."""
    others = [one for one in loaded if (one.name, one.version) != (manifest.name, manifest.version)]
    needs = [one for one in manifest.dependencies if not one.optional]
    if all(any(one.name == need.name and need.version_req.matches(one.version) for one in others) for need in needs):
        return None
    refused = load_order([*others, manifest]).refused
    return next((str(one.reason) for one in refused if one.manifest is manifest), None)


def taken_away(old: Manifest, new: Manifest, loaded: Sequence[Manifest]) -> str | None:
    """Who of `loaded` would lose what it needs if `new` came in the place of `old`."""
    losing = dependants([old], [*loaded, new])
    if not losing:
        return None
    nearest = losing[-1]
    return f"would take away {old.name} {old.version}, which {nearest.name} {nearest.version} needs"


def broken_callers(manifest: Manifest, versions: Sequence[Manifest]) -> str | None:
    """What it breaks for who calls one of the loaded `versions` of it, the lowest first, and what to do.

    It is compared with the version whose requests it would get: the same, or the next lower one. Going back to a lower
    version is never refused. May take a second (see `unannounced_changes`).
    """
    lower = [one for one in versions if one.version <= manifest.version]
    if not lower:
        return None
    changes = list(map(str, unannounced_changes(lower[-1], manifest)))
    if not changes:
        return None
    old = f"{lower[-1].name} {lower[-1].version}"
    more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
    return f"breaks who calls {old}: {changes[0]}{more}; raise the version as for a breaking change, or unload {old}"
