"""What can go wrong with a plugin. One root, `PluginError`; the type says whose fault it is.

`ModuleRefused`, `LoadFailed`, `NotForShadows`: the plugin's. `CompilationFailed`: this machine's. `PluginNotFound`,
`InvalidInput`, `StillNeeded`: the caller's. `HostFunctionRefused`: the embedder's. `GuestFault` never leaves this
folder: it ends a run, and the run's `Outcome` tells it.

`RunFailed` and what is under it come from `execute_plugin` alone: the outcomes of runs, as exceptions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from warren.manifests import Grant, Manifest, Widening

from .outcome import Outcome, RunKind

#: Powers that a message about a parked upgrade lists. The rest is counted.
MAX_LISTED: Final = 10


class PluginError(Exception):
    """The root of all errors that `warren.plugins` raises.

    `may_pass`: it was not for what the plugin's files hold, and the same files may be taken another time.
    """

    may_pass: bool = False


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

    def __init__(self, source: str, reason: str, *, may_pass: bool = False) -> None:
        super().__init__(source, reason)
        self.source = source
        self.reason = reason
        self.may_pass = may_pass

    def __str__(self) -> str:
        return self.reason if self.reason.startswith(self.source) else f"{self.source}: {self.reason}"


class UpgradeParked(LoadFailed):
    """An upgrade that waits for the operator: it would get `more` than `predecessor`, a version of it, was granted.

    Where there is nothing more, the version has other files than those that were approved.
    `digest` is that of its files, which is what can be approved.
    """

    def __init__(
        self,
        source: str,
        manifest: Manifest,
        granted: Grant,
        *,
        digest: bytes,
        predecessor: str,
        more: Sequence[Widening],
    ) -> None:
        self.manifest = manifest
        self.grant = granted
        self.digest = digest
        self.predecessor = predecessor
        self.more = tuple(more)
        plugin = f"{manifest.name} {manifest.version}"
        listed = "; ".join(map(str, self.more[:MAX_LISTED]))
        rest = f"; and {len(self.more) - MAX_LISTED} more" if len(self.more) > MAX_LISTED else ""
        why = f"it would get more than {predecessor} was granted: {listed}{rest}"
        reason = f"{plugin} is parked, for {why if more else 'its files are not those that were approved'}"
        super().__init__(source, f"{reason}; `warren approve {plugin}` lets it in", may_pass=True)


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


class StillNeeded(PluginError):
    """A plugin that others need, which are loaded; `dependants` are those, each as name and version."""

    may_pass = True

    def __init__(self, name: str, version: str | None, dependants: tuple[str, ...]) -> None:
        super().__init__(name, version, dependants)
        self.name = name
        self.version = version
        self.dependants = dependants

    def __str__(self) -> str:
        plugin = self.name if self.version is None else f"{self.name} {self.version}"
        return f"{plugin} is needed by {', '.join(self.dependants)}; unload it with its dependants, or these before it"


class InvalidInput(PluginError):
    """What was given to a plugin cannot be said in JSON."""

    def __init__(self, plugin: str, action: str, reason: str) -> None:
        super().__init__(plugin, action, reason)
        self.plugin = plugin
        self.action = action
        self.reason = reason

    def __str__(self) -> str:
        return f"the input of {self.action!r} for {self.plugin} is not JSON: {self.reason}"


class NotForShadows(PluginError):
    """A plugin that cannot run as a shadow: it called the host function `function`, which may change something."""

    def __init__(self, plugin: str, function: str) -> None:
        super().__init__(plugin, function)
        self.plugin = plugin
        self.function = function

    def __str__(self) -> str:
        return (
            f"{self.plugin} called the host function {self.function!r}, which may change something outside, and so "
            "cannot run as a shadow; give it `changes_nothing=True` if it does not"
        )


class HostFunctionRefused(PluginError):
    """A Python function that cannot be a host function, or that is not to be had: the embedder's or the operator's."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"host function {self.name!r}: {self.reason}"


class RunFailed(PluginError):
    """A run without a result: whose, and the whole outcome, with its logs and what it used."""

    def __init__(self, plugin: str, version: str, action: str, outcome: Outcome, reason: str | None = None) -> None:
        self.reason = reason or outcome.error or outcome.kind
        super().__init__(plugin, version, action, outcome, self.reason)
        self.plugin = plugin
        self.version = version
        self.action = action
        self.outcome = outcome

    def __str__(self) -> str:
        return f"{self.plugin} {self.version}, {self.action!r}: {self.reason}"


class PluginFailed(RunFailed):
    """The guest answered that it could not do it (`failed`); `reason` is its own message."""


class SecurityViolation(RunFailed):
    """The guest asked for what it may not do (`denied`)."""


class ResourceLimit(RunFailed):
    """The guest used up what it was given; `limit` says which: fuel, memory, time or output."""

    @property
    def limit(self) -> RunKind:
        return self.outcome.kind


class PluginTrapped(RunFailed):
    """The guest broke (`trap`); `outcome.backtrace` says where, as far as one can tell."""


class RequestRejected(RunFailed):
    """The manifest has no such action, or the input does not match its schema (`rejected`): the caller's fault."""


class HostUnavailable(RunFailed):
    """The host could not do its part (`unavailable`): it may be tried again."""


class UnexpectedAnswer(RunFailed):
    """The guest answered well, but not what the caller asked `output` to be."""


class HostFunctionError(PluginError):
    """Raised by a host function to answer its guest with an error that the guest may handle.

    `told` is what is recorded of it, where `message` is not the host's to repeat.
    """

    def __init__(self, code: str, message: str, *, told: str | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.told = message if told is None else told

    def __str__(self) -> str:
        return f"{self.code}: {self.told}"


class GuestFault(PluginError):
    """The end of a run that gave no answer: the outcome's kind, the sentence, and the guest's frames if it trapped."""

    def __init__(self, kind: RunKind, reason: str, backtrace: tuple[str, ...] = ()) -> None:
        super().__init__(kind, reason)
        self.kind: RunKind = kind
        self.reason = reason
        self.backtrace = backtrace

    def __str__(self) -> str:
        return self.reason


class GuestExit(GuestFault):
    """A guest ended itself, by WASI's `proc_exit`: what a program does, and a guest that is to answer must not."""

    def __init__(self, code: int) -> None:
        super().__init__("trap", f"the guest exited with code {code}")
        self.code = code


class OutsideMemory(GuestFault):
    """A guest named a range that is not in its memory: what no compiler's code does."""

    def __init__(self, asked: str) -> None:
        super().__init__("trap", f"the guest gave a range outside its memory: {asked}")
        self.asked = asked
