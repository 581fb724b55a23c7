"""Running untrusted WebAssembly: plugins are loaded from disk, checked, and run in a brand-new sandbox per request.

Here live the checks of modules, the engine, the sandbox with its guest ABI and host functions, the manager that holds
what is loaded, and recordings of runs with their replay. `PluginManager` is the way in; `Plugin.run` takes a request's
bytes and gives an `Outcome`, which is data: messages and answers are published by somebody else, and calls of plugins
that are not here are made by somebody else (`Elsewhere`). This package knows no broker, and imports of Warren
`warren.manifests` alone. `wasmtime` is used nowhere else.
"""

from .audit import AuditListener, AuditRecord
from .calls import Elsewhere, PluginCall
from .debugging import Capture, Debugging
from .errors import (
    HostFunctionError,
    HostFunctionRefused,
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
from .flame_graph import flame_graph
from .fuel_profile import FuelProfile, folded
from .host_functions import EmbedderFunction, HostRun, host_function
from .installed_functions import InstalledFunction, enabled_functions, installed_functions
from .lifecycle import LifecycleEvent, PluginLoaded, PluginRefused, PluginReplaced, PluginUnloaded
from .manager import PluginManager
from .memory_dump import write_dump
from .outcome import (
    AuditEvent,
    AuditSeverity,
    Callee,
    GuestMessage,
    HostCall,
    LogLine,
    Outcome,
    RunKind,
    TopicChange,
    Trail,
)
from .plugin import Plugin, PluginHealth, PluginInfo
from .plugin_folder import data_folder
from .policies import read_policy
from .recording import (
    MAX_RECORDING_BYTES,
    RecordedEvent,
    Recording,
    RecordingUnreadable,
    read_recording,
    unpack_recording,
)
from .replaying import Asked, Difference, Ended, Replayed, replay
from .watcher import WatchOptions

__all__ = [
    "MAX_RECORDING_BYTES",
    "Asked",
    "AuditEvent",
    "AuditListener",
    "AuditRecord",
    "AuditSeverity",
    "Callee",
    "Capture",
    "Debugging",
    "Difference",
    "Elsewhere",
    "EmbedderFunction",
    "Ended",
    "FuelProfile",
    "GuestMessage",
    "HostCall",
    "HostFunctionError",
    "HostFunctionRefused",
    "HostRun",
    "HostUnavailable",
    "InstalledFunction",
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
    "RecordedEvent",
    "Recording",
    "RecordingUnreadable",
    "Replayed",
    "RequestRejected",
    "ResourceLimit",
    "RunFailed",
    "RunKind",
    "SecurityViolation",
    "StillNeeded",
    "TopicChange",
    "Trail",
    "UnexpectedAnswer",
    "UpgradeParked",
    "WatchOptions",
    "data_folder",
    "enabled_functions",
    "flame_graph",
    "folded",
    "host_function",
    "installed_functions",
    "read_policy",
    "read_recording",
    "replay",
    "unpack_recording",
    "write_dump",
]
