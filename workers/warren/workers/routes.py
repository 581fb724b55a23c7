"""Which version a request gets where that is not simply the highest: while a rollout runs, and after it went wrong.

A plugin without a route is not here, and pays a look-up for it; one whose rollout runs pays some 6 µs a request, for
the draw and for what is counted. Whatever the route, a request never gets a version that its own requirement does not
admit; one that was rolled back is given to those only who admit nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from warren.bus import Request
from warren.manifests import VersionReq
from warren.plugins import Plugin, PluginNotFound

from .rollout import State
from .sticky import place, sticky_key
from .trial import Trial


class Route:
    """The ways of one plugin. Made anew whenever something changes."""

    def __init__(self, first: Plugin, sound: Sequence[Plugin], last: Sequence[Plugin], trial: Trial | None) -> None:
        """`sound` and `last` are all versions, but the one that is tried, in the order in which they are preferred.

        `first` is the one for requests without a requirement. `trial` is only given while it runs.
        """
        self.first = first
        self.ranked = (*sound, *last)
        self.trial = trial
        self._sound = {one.version: one for one in (*sound, *([trial.candidate] if trial else []))}

    def choose(
        self, request: Request, requirement: VersionReq | None, *, prefer: str | None = None
    ) -> tuple[Plugin, Trial | None]:
        """The version for a request, and the trial that its run counts in. Raises `PluginNotFound`.

        `prefer` is the version that an earlier attempt got: it is kept while it is loaded, admitted and sound.
        """
        trial = self.trial
        if prefer is not None and (same := self._sound.get(prefer)) and _admits(requirement, same):
            return same, None
        usual = self.first if requirement is None else _first_admitted(self.ranked, requirement)
        if trial is not None and _admits(requirement, trial.candidate):
            if usual is None:
                return trial.candidate, None
            return self._draw(trial, request, usual)
        if usual is None:
            versions = tuple(sorted(plugin.version for plugin in self.ranked))
            raise PluginNotFound(request.plugin, str(requirement), versions)
        return usual, None

    @staticmethod
    def _draw(trial: Trial, request: Request, usual: Plugin) -> tuple[Plugin, Trial | None]:
        """What has no key stays with the old version, and does not count: it was not drawn for it."""
        key = sticky_key(request.message, trial.policy.sticky)
        if key is None:
            return usual, None
        drawn = place(trial.name, trial.candidate.version, key) * 100 < trial.policy.percent
        if trial.state is State.SHADOW:
            return usual, trial if drawn else None
        return trial.candidate if drawn else usual, trial


def route(versions: Sequence[Plugin], trial: Trial | None, rolled_back: Collection[Plugin]) -> Route | None:
    """How requests find their version, if not as ever. `versions` are those loaded, the lowest first."""
    running = trial if trial is not None and trial.is_running else None
    sound = [one for one in reversed(versions) if one not in rolled_back]
    last = [one for one in reversed(versions) if one in rolled_back]
    if running is not None:
        sound.remove(running.candidate)
    first = release_first(sound or last)
    if first is None:
        return None
    if trial is not None and trial.state is State.PROMOTED and trial.candidate is not first:
        first = trial.candidate
        sound.remove(first)
        sound.insert(0, first)
    elif running is None and not last:
        return None
    return Route(first, sound, last, running)


def release_first(ranked: Sequence[Plugin]) -> Plugin | None:
    """What a request without a requirement gets of these: a pre-release only where there is no release."""
    return next((one for one in ranked if not one.manifest.version.prerelease), ranked[0] if ranked else None)


def _first_admitted(ranked: Sequence[Plugin], requirement: VersionReq) -> Plugin | None:
    return next((one for one in ranked if _admits(requirement, one)), None)


def _admits(requirement: VersionReq | None, plugin: Plugin) -> bool:
    return requirement is None or requirement.matches(plugin.manifest.version)
