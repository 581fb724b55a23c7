"""What can go wrong with a plugin. One root, `PluginError`; the type says whose fault it is.

`ModuleRefused`, `LoadFailed`: the plugin's. `CompilationFailed`: this machine's. `PluginNotFound`: the caller's.
`GuestFault` never leaves this folder: it ends a run, and the run's `Outcome` tells it.
"""

from __future__ import annotations

from .outcome import RunKind


class PluginError(Exception):
    """The root of all errors that `warren.plugins` raises."""


class ModuleRefused(PluginError):
    """A module that must not or cannot run here: the plugin's fault, found before it runs."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class CompilationFailed(PluginError):
    """A module could not be compiled, through no fault of its own as far as one knows: it may be tried again."""


class LoadFailed(PluginError):
    """A plugin that could not be loaded, with the place and the reason."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(source, reason)
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return self.reason if self.reason.startswith(self.source) else f"{self.source}: {self.reason}"


class PluginNotFound(PluginError):
    """No plugin of that name, or no version of it that the requirement admits, is loaded."""

    def __init__(self, name: str, requirement: str | None = None, versions: tuple[str, ...] = ()) -> None:
        super().__init__(name, requirement, versions)
        self.name = name
        self.requirement = requirement
        self.versions = versions

    def __str__(self) -> str:
        if self.versions:
            loaded = ", ".join(self.versions)
            return f"no version of plugin {self.name!r} matches {self.requirement!r}; loaded: {loaded}"
        return f"no plugin {self.name!r} is loaded"


class HostFunctionError(PluginError):
    """Raised by a host function to answer its guest with an error that the guest may handle."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class GuestFault(PluginError):
    """The end of a run that gave no answer: the outcome's kind, the sentence, and the guest's frames if it trapped."""

    def __init__(self, kind: RunKind, reason: str, backtrace: tuple[str, ...] = ()) -> None:
        super().__init__(kind, reason)
        self.kind: RunKind = kind
        self.reason = reason
        self.backtrace = backtrace

    def __str__(self) -> str:
        return self.reason
