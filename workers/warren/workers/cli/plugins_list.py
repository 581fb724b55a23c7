"""`warren plugins`: load the plugins of a folder, and list them."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.text import Text

from warren.manifests import Policy
from warren.plugins import Plugin, PluginManager

from ..text import duration, printable, size
from .exit_codes import ExitCode
from .json_data import print_json
from .logs import configure_logging
from .output import print_error, print_note, stdout
from .policy import chosen_policy


def run(directory: Path, policy: Path | None, secrets: tuple[Path, ...], *, as_json: bool) -> ExitCode:
    """Every plugin that loads, and why the others do not."""
    configure_logging("error", as_json=as_json)  # what is not loaded is said below
    plugins, failures = asyncio.run(_load(directory, chosen_policy(policy), secrets))
    if as_json:
        print_json({"plugins": [_data(plugin) for plugin in plugins], "failed": failures})
    else:
        _print(directory, plugins, failures)
    return ExitCode.FAILED if failures else ExitCode.OK


async def _load(directory: Path, policy: Policy, secrets: tuple[Path, ...]) -> tuple[list[Plugin], list[str]]:
    async with PluginManager(directory, policy=policy, secrets=secrets) as manager:
        plugins = sorted(manager.plugins(), key=lambda one: (one.name, one.manifest.version))
        return plugins, [str(failure) for failure in manager.failures]


def _data(plugin: Plugin) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "version": plugin.version,
        "description": plugin.manifest.description,
        "abi": plugin.abi,
        "capabilities": sorted(plugin.grant.capabilities),
        "limits": asdict(plugin.grant.limits),
        "subscribe": [str(pattern) for pattern in plugin.grant.subscribe],
        "publish": [str(pattern) for pattern in plugin.grant.publish],
        "notes": plugin.grant.notes,
        "status": "loaded",
        "wasm": printable(str(plugin.files.wasm)),
    }


def _print(directory: Path, plugins: list[Plugin], failures: list[str]) -> None:
    if not plugins and not failures:
        print_note(f"there are no plugins in {directory}: a plugin is a .wasm and a .toml of one stem")
    if plugins:
        stdout().print(Text("\n\n").join(map(_paragraph, plugins)), soft_wrap=True)
    for failure in failures:
        print_error(f"not loaded: {failure}")


def _paragraph(plugin: Plugin) -> Text:
    limits = plugin.grant.limits
    facts = {
        "abi": plugin.abi,
        "capabilities": ", ".join(sorted(plugin.grant.capabilities)),
        "limits": f"{size(limits.memory_bytes)}, {limits.max_fuel:,} fuel, {duration(limits.timeout_s * 1e6)}",
        "subscribes": ", ".join(map(str, plugin.grant.subscribe)),
        "publishes": ", ".join(map(str, plugin.grant.publish)),
        "file": str(plugin.files.wasm),
    }
    text = Text.assemble((plugin.name, "bold"), f" {plugin.version} ", ("loaded", "green"))
    if plugin.manifest.description:
        text.append(f"\n  {printable(plugin.manifest.description)}")
    for fact, value in facts.items():
        if value:
            text.append(f"\n  {fact:<14}", "dim").append(printable(value))
    for note in plugin.grant.notes:
        text.append(f"\n  note: {printable(note)}", "yellow")
    return text
