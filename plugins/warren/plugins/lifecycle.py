"""What happens to plugins, for whoever has to follow: a worker that declares mailboxes, a log, a test.

Observers are called at the moment of the change, in the order they came, on the event loop; they hand on what takes
time. Rejected: an async iterator of events, which would need a queue, a bound for it, and a word on what is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .files import PluginFiles
from .plugin import Plugin


@dataclass(frozen=True, slots=True)
class PluginLoaded:
    """It can be found from now on."""

    plugin: Plugin


@dataclass(frozen=True, slots=True)
class PluginReplaced:
    """The same name and version, loaded again. Runs under way in `old` end there."""

    plugin: Plugin
    old: Plugin


@dataclass(frozen=True, slots=True)
class PluginUnloaded:
    """It can no longer be found. Runs under way in it go on to their end."""

    plugin: Plugin


@dataclass(frozen=True, slots=True)
class PluginRefused:
    """What lies in `files` was not taken, and nothing has changed. `standing` is what was loaded from there before."""

    files: PluginFiles
    error: Exception
    standing: Plugin | None


LifecycleEvent = PluginLoaded | PluginReplaced | PluginUnloaded | PluginRefused
Observer = Callable[[LifecycleEvent], None]
