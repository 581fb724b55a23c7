"""The law of `warren.manifests.resolution`, by trying everything: what the resolver is checked against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from warren.manifests import Demand, Manifest, PluginVersion

Chosen = dict[str, Manifest]
Needs = Callable[[Manifest], Sequence[Demand]]


def demands_of(manifest: Manifest, *, optional: bool = False) -> list[Demand]:
    by = PluginVersion(manifest.name, manifest.version)
    return [Demand(one.name, one.version_req, by) for one in manifest.dependencies if one.optional is optional]


def solutions(roots: Sequence[Demand], needs: Needs, available: Sequence[Manifest]) -> Iterator[Chosen]:
    """Every choice of one version for each name that is demanded which meets all demands, without a cycle."""
    return (chosen for chosen, demands in _choices(list(roots), {}, needs, available) if _holds(chosen, demands, needs))


def _choices(
    demands: list[Demand], chosen: Chosen, needs: Needs, available: Sequence[Manifest]
) -> Iterator[tuple[Chosen, list[Demand]]]:
    missing = next((demand.name for demand in demands if demand.name not in chosen), None)
    if missing is None:
        yield chosen, demands
        return
    for manifest in available:
        if manifest.name == missing:
            yield from _choices([*demands, *needs(manifest)], {**chosen, missing: manifest}, needs, available)


def _holds(chosen: Chosen, demands: Iterable[Demand], needs: Needs) -> bool:
    met = all(demand.requirement.matches(chosen[demand.name].version) for demand in demands)
    return met and not any(name in _behind(name, chosen, needs) for name in chosen)


def _behind(name: str, chosen: Chosen, needs: Needs) -> set[str]:
    """All that `name` depends on."""
    behind: set[str] = set()
    while more := {d.name for one in behind or {name} for d in needs(chosen[one])} - behind:
        behind |= more
    return behind


def best(wanted: Sequence[Demand], available: Sequence[Manifest]) -> tuple[Chosen, list[Demand]] | None:
    """What the law says is chosen, and which optional dependencies are left out; None if nothing can be."""
    accepted: list[Demand] = []

    def needs(manifest: Manifest) -> list[Demand]:
        optional = [one for one in demands_of(manifest, optional=True) if one in accepted]
        return demands_of(manifest) + optional

    chosen = _preferred(list(solutions(wanted, needs, available)), [one.name for one in wanted], {}, needs)
    if chosen is None:
        return None
    left_out: list[Demand] = []
    asking = list(chosen.values())
    for manifest in asking:
        for demand in demands_of(manifest, optional=True):
            accepted.append(demand)
            found = [one for one in solutions(wanted, needs, available) if chosen.items() <= one.items()]
            more = _preferred(found, [demand.name], chosen, needs)
            if more is None:
                accepted.remove(demand)
                left_out.append(demand)
            else:
                asking.extend(one for name, one in more.items() if name not in chosen)
                chosen = more
    return chosen, left_out


def _preferred(found: list[Chosen], names: list[str], standing: Chosen, needs: Needs) -> Chosen | None:
    """Of the solutions that were `found`, the one in which each name, breadth first, has the highest version."""
    if not found:
        return None
    taken, ahead = dict(standing), list(names)
    for name in ahead:
        if name not in taken:
            highest = max(one[name].version for one in found)
            found = [one for one in found if one[name].version == highest]
            taken[name] = found[0][name]
            ahead.extend(demand.name for demand in needs(taken[name]))
    return taken
