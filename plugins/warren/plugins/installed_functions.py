"""Host functions that installed distributions offer, by entry points of the group `warren.host_functions`.

    [project.entry-points."warren.host_functions"]
    forecast = "weather.warren:forecast"

To be installed enables nothing: each is named by the operator, and only what was named is imported. (To list them all
imports them all, for a signature stands nowhere else.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from .errors import HostFunctionRefused
from .host_functions import EmbedderFunction

GROUP: Final = "warren.host_functions"


@dataclass(frozen=True, slots=True)
class InstalledFunction:
    """One entry point: `distribution` is name and version; either the `function` or the `error` why it is none."""

    name: str
    distribution: str
    function: EmbedderFunction[..., Any] | None
    error: str | None = None


def installed_functions() -> list[InstalledFunction]:
    """All that are installed, by name. Imports each."""
    return [
        _listed(name, point, alone=len(points) == 1)
        for name, points in sorted(_offered().items())
        for point in sorted(points, key=_distribution)
    ]


def enabled_functions(names: Iterable[str]) -> list[EmbedderFunction[..., Any]]:
    """Those of these names. Raises `HostFunctionRefused` for one that is not installed, or that is no host function."""
    offered = _offered()
    return [_load(name, offered.get(name, []), offered) for name in dict.fromkeys(names)]


def _offered() -> dict[str, list[EntryPoint]]:
    offered: defaultdict[str, list[EntryPoint]] = defaultdict(list)
    for point in entry_points(group=GROUP):
        if point not in offered[point.name]:  # a folder that is on sys.path twice
            offered[point.name].append(point)
    return offered


def _listed(name: str, point: EntryPoint, *, alone: bool) -> InstalledFunction:
    try:
        function = _load(name, [point], {})
        error = None if alone else "others of this name are installed, so it cannot be enabled"
    except HostFunctionRefused as refused:
        return InstalledFunction(name, _distribution(point), None, refused.reason)
    return InstalledFunction(name, _distribution(point), function, error)


def _load(name: str, points: list[EntryPoint], offered: Iterable[str]) -> EmbedderFunction[..., Any]:
    if not points:
        there_are = ", ".join(sorted(offered)) or "none at all"
        raise HostFunctionRefused(
            name, f"no installed distribution has it (entry points {GROUP!r}); there are {there_are}"
        )
    if len(points) > 1:
        owners = " and ".join(sorted(map(_distribution, points)))
        raise HostFunctionRefused(name, f"{owners} both have one of this name; uninstall one of them")
    [point] = points
    try:
        function = point.load()
    except Exception as error:
        reason = f"{point.value} of {_distribution(point)} cannot be imported: {type(error).__name__}: {error}"
        raise HostFunctionRefused(name, reason) from error
    if not isinstance(function, EmbedderFunction):
        reason = f"{point.value} of {_distribution(point)} is no host function: decorate it with `@host_function()`"
        raise HostFunctionRefused(name, reason)
    if function.name != name:
        reason = (
            f"{point.value} of {_distribution(point)} is called {function.name!r} by guests; name the entry point so"
        )
        raise HostFunctionRefused(name, reason)
    return function


def _distribution(point: EntryPoint) -> str:
    return "an unknown distribution" if point.dist is None else f"{point.dist.name} {point.dist.version}"
