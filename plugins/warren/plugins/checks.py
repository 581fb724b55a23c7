"""Everything a plugin can be refused for without running it. Loading begins here, and `warren check` is just this."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic_core import to_json

from warren.manifests import Grant, GrantRefused, Manifest, Policy, grant, parse_manifest, runtime_version

from .actions import Actions
from .backtrace import SourceLines, read_source_lines, without_debug_sections
from .errors import LoadFailed, ModuleRefused
from .files import PluginFiles, digest_of
from .growth import with_growth_witness
from .guest import PAGE_BYTES
from .host_imports import IMPORTS
from .module import CoreAbi, check_core_abi, read_module
from .secrets import Given
from .wasi_abi import WASI_IMPORTS


@dataclass(frozen=True, slots=True)
class CheckedPlugin:
    """A plugin that may be compiled; `wasm` is its module as it is going to be compiled, `digest` that of its files."""

    manifest: Manifest
    grant: Grant
    actions: Actions
    abi: CoreAbi
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
    if manifest.runtime.abi not in (None, "core"):
        raise LoadFailed(source, f"[runtime] abi = {manifest.runtime.abi!r} is not supported yet; only 'core' is")
    actions = Actions(manifest, source)
    try:
        module = files.read_module()
        abi, wasm = check_module(module, granted.limits.memory_bytes)
    except ModuleRefused as error:
        raise LoadFailed(str(files.wasm), error.reason) from error
    lines = read_source_lines(module, wasm)
    return CheckedPlugin(manifest, granted, actions, abi, wasm, lines, digest_of(text, module))


def check_module(data: bytes, memory_bytes: int) -> tuple[CoreAbi, bytes]:
    """What ABI the module has, and the module with its growth witnessed. Raises `ModuleRefused`."""
    module = read_module(data)
    abi = check_core_abi(module, {**IMPORTS, **WASI_IMPORTS})
    if module.memory is not None and module.memory.min_pages * PAGE_BYTES > memory_bytes:
        needed = module.memory.min_pages * PAGE_BYTES
        raise ModuleRefused(f"starts with {needed:,} bytes of memory; its limit is {memory_bytes:,}")
    return abi, without_debug_sections(with_growth_witness(data))


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
