"""Everything a plugin can be refused for without running it. Loading begins here, and `warren check` is just this."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic_core import to_json

from warren.manifests import Abi as AbiName
from warren.manifests import (
    Grant,
    GrantRefused,
    Manifest,
    Policy,
    Runtime,
    grant,
    parse_manifest,
    runtime_version,
)

from .abi import AnyAbi
from .actions import Actions
from .backtrace import SourceLines, read_source_lines, without_debug_sections
from .component_abi import check_component
from .component_binary import is_component, read_component
from .core_abi import CoreAbi, check_core_abi
from .errors import LoadFailed, ModuleRefused
from .extism_abi import ExtismAbi, check_extism
from .extism_kernel import KERNEL_PAGES, dialect_of
from .files import PluginFiles, digest_of
from .growth import with_growth_witness
from .guest import PAGE_BYTES
from .host_imports import IMPORTS
from .module import ModuleInfo, read_module
from .secrets import Given
from .snapshot import fit_for_snapshot
from .wasi_abi import WASI_IMPORTS
from .wasi_command import check_wasi

#: A manifest that says nothing of it.
AS_FOUND: Final = Runtime()


@dataclass(frozen=True, slots=True)
class CheckedPlugin:
    """A plugin that may be compiled; `wasm` is its module as it is going to be compiled, `digest` that of its files."""

    manifest: Manifest
    grant: Grant
    actions: Actions
    abi: AnyAbi
    wasm: bytes
    lines: SourceLines | None
    digest: bytes


def check_plugin(files: PluginFiles, policy: Policy) -> CheckedPlugin:
    """Raises `ManifestError` or `LoadFailed`; both name the file."""
    source = str(files.manifest)
    text = files.read_manifest_text()
    manifest = parse_manifest(text, source)
    try:
        granted = grant(manifest, policy, runtime_version())
    except GrantRefused as error:
        raise LoadFailed(source, str(error)) from error
    if manifest.runtime.variables == "storage" and "storage" not in granted.capabilities:
        reason = "[runtime] variables = 'storage' needs the capability 'storage', which it does not have here"
        raise LoadFailed(source, f"{reason}: ask for it in [capabilities] required")
    actions = Actions(manifest, source)
    try:
        module = files.read_module()
        abi, wasm = check_module(module, granted.limits.memory_bytes, manifest.runtime)
    except ModuleRefused as error:
        raise LoadFailed(str(files.wasm), error.reason) from error
    lines = None if is_component(module) else read_source_lines(module, wasm)
    return CheckedPlugin(manifest, granted, actions, abi, wasm, lines, digest_of(text, module))


def check_module(data: bytes, memory_bytes: int, runtime: Runtime = AS_FOUND) -> tuple[AnyAbi, bytes]:
    """Its ABI, and the module with its growth witnessed. Raises `ModuleRefused`.

    `runtime` is the manifest's, which may say the ABI, too, and is refused when it is not the module's.
    """
    if is_component(data):
        return _check_component(data, memory_bytes, runtime)
    module = read_module(data)
    name, sign = recognised(module)
    _check_runtime(runtime, name, sign)
    abi = _ABI_CHECKS[name](module, runtime)
    if runtime.snapshot:
        fit_for_snapshot(abi)
    pages = (0 if module.memory is None else module.memory.min_pages) + (KERNEL_PAGES if name == "extism" else 0)
    _check_memory(pages * PAGE_BYTES, memory_bytes)
    return abi, without_debug_sections(with_growth_witness(data))


def _check_component(data: bytes, memory_bytes: int, runtime: Runtime) -> tuple[AnyAbi, bytes]:
    _check_runtime(runtime, "component", "it is a component, not a core module")
    info, wasm = read_component(data)
    abi = check_component(info)
    if runtime.snapshot:
        fit_for_snapshot(abi)
    _check_memory(info.needed_bytes, memory_bytes)
    return abi, wasm


def _check_runtime(runtime: Runtime, name: AbiName, sign: str) -> None:
    if runtime.abi not in (None, name):
        raise ModuleRefused(f"the manifest has [runtime] abi = {runtime.abi!r}, and the module is {name!r}: {sign}")
    if name != "wasi" and (runtime.args is not None or runtime.streams != "json"):
        raise ModuleRefused(
            f"[runtime] args and streams are for the ABI 'wasi' alone, and the module is {name!r}: {sign}"
        )
    if name != "extism" and runtime.variables != "run":
        raise ModuleRefused(f"[runtime] variables is for the ABI 'extism' alone, and the module is {name!r}: {sign}")


def _check_memory(begins_with: int, limit: int) -> None:
    if begins_with > limit:
        raise ModuleRefused(f"starts with {begins_with:,} bytes of memory; its limit is {limit:,}")


def recognised(module: ModuleInfo) -> tuple[AbiName, str]:
    """What ABI a core module has, and how one can tell. What has no sign of another is `core`, and checked as that."""
    for item in module.imports:
        if dialect_of(item.module, item.name) is not None:
            named = "" if item.module.startswith("extism:") else f" {item.name!r}"
            return "extism", f"it imports {item.module!r}{named}"
    if "_start" in module.exports and "handle_request" not in module.exports:
        return "wasi", "it exports '_start' and no 'handle_request', as a WASI command does"
    return "core", "it neither imports anything of Extism's nor is a WASI command"


def _check_core(module: ModuleInfo, _runtime: Runtime) -> CoreAbi:
    return check_core_abi(module, {**IMPORTS, **WASI_IMPORTS})


def _check_extism(module: ModuleInfo, runtime: Runtime) -> ExtismAbi:
    return check_extism(module, keeps_variables=runtime.variables == "storage")


#: How a core module of each ABI is checked, and what then knows how to run it.
_ABI_CHECKS: Final[Mapping[AbiName, Callable[[ModuleInfo, Runtime], AnyAbi]]] = {
    "core": _check_core,
    "wasi": check_wasi,
    "extism": _check_extism,
}


def plugin_config(granted: Grant, given: Given) -> bytes:
    """The JSON that `initialize` is given: settings, resources, capabilities and environment."""
    limits = granted.limits
    return to_json(
        {
            "settings": given.settings,
            "resources": {
                "memory_bytes": limits.memory_bytes,
                "max_fuel": limits.max_fuel,
                "execution_timeout_seconds": limits.timeout_s,
                "max_open_files": limits.max_open_files,
                "max_network_connections": limits.max_network_connections,
            },
            "capabilities": sorted(granted.capabilities),
            "environment": given.environment,
        }
    )
