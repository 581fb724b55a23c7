"""Running untrusted WebAssembly: plugins are loaded from disk, checked, and run in a brand-new sandbox per request.

Here live the checks of modules, the engine, the sandbox with its guest ABI and host functions, and the manager that
holds what is loaded. `PluginManager` is the way in; `Plugin.run` takes a request's bytes and gives an `Outcome`, which
is data: messages and answers are published by somebody else, and calls of plugins that are not here are made by
somebody else (`Elsewhere`). This package knows no broker, and imports of Warren
`warren.manifests` alone. `wasmtime` is used nowhere else.
"""

from .calls import Elsewhere, PluginCall
from .errors import (
    HostFunctionError,
    HostUnavailable,
    InvalidInput,
    LoadFailed,
    ModuleRefused,
    NotForShadows,
    PluginError,
    PluginFailed,
    PluginNotFound,
    PluginTrapped,
    RequestRejected,
    ResourceLimit,
    RunFailed,
    SecurityViolation,
    StillNeeded,
    UnexpectedAnswer,
    UpgradeParked,
)
from .host import STANDARD_FUNCTIONS, HostFunction, HostSession, changes_nothing
from .lifecycle import LifecycleEvent, PluginLoaded, PluginRefused, PluginReplaced, PluginUnloaded
from .manager import PluginManager
from .outcome import AuditEvent, AuditSeverity, Callee, GuestMessage, HostCall, LogLine, Outcome, RunKind, Trail
from .plugin import Plugin, PluginHealth, PluginInfo
from .policies import read_policy
from .watcher import WatchOptions

__all__ = [
    "STANDARD_FUNCTIONS",
    "AuditEvent",
    "AuditSeverity",
    "Callee",
    "Elsewhere",
    "GuestMessage",
    "HostCall",
    "HostFunction",
    "HostFunctionError",
    "HostSession",
    "HostUnavailable",
    "InvalidInput",
    "LifecycleEvent",
    "LoadFailed",
    "LogLine",
    "ModuleRefused",
    "NotForShadows",
    "Outcome",
    "Plugin",
    "PluginCall",
    "PluginError",
    "PluginFailed",
    "PluginHealth",
    "PluginInfo",
    "PluginLoaded",
    "PluginManager",
    "PluginNotFound",
    "PluginRefused",
    "PluginReplaced",
    "PluginTrapped",
    "PluginUnloaded",
    "RequestRejected",
    "ResourceLimit",
    "RunFailed",
    "RunKind",
    "SecurityViolation",
    "StillNeeded",
    "Trail",
    "UnexpectedAnswer",
    "UpgradeParked",
    "WatchOptions",
    "changes_nothing",
    "read_policy",
]
