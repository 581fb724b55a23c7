"""`warren plugins show`: one plugin, as its manifest and this installation's policy have it. Nothing of it is run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.highlighter import JSONHighlighter
from rich.text import Text

from warren.manifests import Action, Grant, Manifest, ManifestError, Policy, VersionReq
from warren.plugins.checks import CheckedPlugin, check_plugin
from warren.plugins.errors import PluginError
from warren.plugins.files import PluginFiles, find_plugins
from warren.plugins.upgrades import Review, Upgrades, review_all

from ..plugin_data import left_out, permissions, public_data
from ..rollout import in_words
from ..text import duration, printable, size
from .exit_codes import ExitCode
from .failures import WrongUsage
from .json_data import fitted_json, print_json
from .output import stdout
from .policy import chosen_policy

#: Columns of the names of facts, indented by two.
_NAMES_WIDTH: Final = 15

#: A line of a schema is not longer, however wide the terminal is.
_MAX_WIDTH: Final = 120


def run(directory: Path, name: str, requirement: str | None, policy_file: Path | None, *, as_json: bool) -> ExitCode:
    """Show the highest version of `name` that `requirement` admits. What keeps it from being loaded is an error."""
    files = chosen(directory, name, requirement)
    policy = chosen_policy(policy_file)
    checked = check_plugin(files, policy)
    review = reviewed(directory, checked, policy)
    if as_json:
        print_json(
            public_data(checked.manifest, checked.grant)
            | {"abi": checked.abi.name}
            | {"files": {"wasm": str(files.wasm), "manifest": str(files.manifest)}, "upgrade": _upgrade(review)}
        )
    else:
        console = stdout()
        console.print(_page(files, checked, review, min(console.width, _MAX_WIDTH)), soft_wrap=True)
    return ExitCode.OK


def reviewed(directory: Path, checked: CheckedPlugin, policy: Policy) -> Review:
    """What a worker would come to that finds this version in its folder, with the others that are there."""
    versions = [checked]
    for manifest, files in _manifests(directory)[0]:
        if manifest.name == checked.manifest.name and manifest.version != checked.manifest.version:
            with suppress(ManifestError, PluginError):
                versions.append(check_plugin(files, policy))
    return next(review for one, review in review_all(Upgrades(policy), versions) if one is checked)


def _upgrade(review: Review) -> dict[str, Any]:
    return {
        "waits": review.waits,
        "approved": review.approved,
        "predecessor": review.predecessor,
        "more": [asdict(one) for one in review.more],
    }


def chosen(directory: Path, name: str, requirement: str | None) -> PluginFiles:
    """Raises `WrongUsage` when there is none, saying what there is."""
    admits = _requirement(requirement)
    found, unreadable = _manifests(directory)
    versions = [(manifest, files) for manifest, files in found if manifest.name == name]
    fitting = [(manifest, files) for manifest, files in versions if admits is None or admits.matches(manifest.version)]
    if fitting:
        return max(fitting, key=lambda one: one[0].version)[1]
    hint = f"{unreadable} cannot be read: warren check {directory}" if unreadable else None
    if versions:
        there_are = ", ".join(str(manifest.version) for manifest, _ in versions)
        raise WrongUsage(f"no version of {name!r} in {directory} matches {requirement!r}; there are: {there_are}", hint)
    there_are = ", ".join(sorted({manifest.name for manifest, _ in found})) or "none"
    raise WrongUsage(f"there is no plugin {name!r} in {directory}; there are: {there_are}", hint)


def _requirement(requirement: str | None) -> VersionReq | None:
    try:
        return None if requirement is None else VersionReq.parse(requirement)
    except ValueError as error:
        raise WrongUsage(str(error)) from error


def _manifests(directory: Path) -> tuple[list[tuple[Manifest, PluginFiles]], int]:
    """Every manifest that can be read, and how many cannot."""
    found: list[tuple[Manifest, PluginFiles]] = []
    everything = find_plugins(directory)
    for files in everything:
        try:
            found.append((files.read_manifest(), files))
        except (ManifestError, PluginError):
            continue
    return found, len(everything) - len(found)


def _page(files: PluginFiles, checked: CheckedPlugin, review: Review, width: int) -> Text:
    manifest, grant = checked.manifest, checked.grant
    text = Text.assemble((manifest.name, "bold"), f" {manifest.version}")
    if review.waits:
        text.append(" parked", "yellow")
    text.append(_facts(_identity(files, checked)))
    text.append("\nactions", "cyan")
    if not manifest.actions:
        text.append("\n  none is declared: the plugin decides for itself what it can be asked for", "dim")
    for name, action in manifest.actions.items():
        text.append(_action(name, action, width))
    text.append("\nasks for", "cyan").append(_facts(_wishes(manifest)))
    text.append("\nmay", "cyan").append(_facts(_rights(grant)))
    for one in left_out(manifest, grant):
        text.append(f"\n  note: {printable(str(one))}", "yellow")
    text.append(upgrade_lines(review))
    text.append("\nset up with", "cyan").append(_facts(_setup(manifest)))
    return text


def _facts(facts: Mapping[str, str]) -> Text:
    """A line for each; what is empty is left out."""
    text = Text()
    for name, value in facts.items():
        if value:
            text.append(f"\n  {name:<{_NAMES_WIDTH - 1}} ", "dim").append(printable(value))
    return text


def _identity(files: PluginFiles, checked: CheckedPlugin) -> dict[str, str]:
    manifest = checked.manifest
    return {
        "description": manifest.description,
        "author": manifest.author,
        "license": manifest.license,
        "abi": checked.abi.name,
        "module": str(files.wasm),
        "manifest": str(files.manifest),
    }


def _action(name: str, action: Action, width: int) -> Text:
    text = Text(f"\n  {printable(name)}", "bold")
    if action.description:
        text.append(f"  {printable(action.description)}", "not bold")
    for side, schema in (("request", action.request), ("response", action.response)):
        text.append(f"\n    {side:<10}", "dim not bold")
        if schema is None:
            text.append("anything", "dim not bold")
        else:
            text.append(Text("\n" + " " * 14).join(map(_highlighted, fitted_json(schema, width - 14))))
    return text


def _highlighted(line: str) -> Text:
    highlighted = Text(line, "not bold")
    JSONHighlighter().highlight(highlighted)
    return highlighted


def _rights(grant: Grant) -> dict[str, str]:
    permitted = {name.replace("_", " "): ", ".join(map(str, given)) for name, given in permissions(grant).items()}
    limits = grant.limits
    return {
        "capabilities": ", ".join(sorted(grant.capabilities)) or "none",
        **permitted,
        "limits": f"{size(limits.memory_bytes)}, {limits.max_fuel:,} fuel, {duration(limits.timeout_s * 1e6)}",
        "open files": str(limits.max_open_files),
        "storage": size(limits.storage_bytes),
        "own files": size(limits.files_bytes),
        "connections": f"{limits.max_network_connections}, {duration(limits.network_timeout_s * 1e6)} for each",
        "subscribe": ", ".join(map(str, grant.subscribe)),
        "may subscribe": ", ".join(map(str, grant.may_subscribe)),
        "publish": ", ".join(map(str, grant.publish)),
    }


def _wishes(manifest: Manifest) -> dict[str, str]:
    wanted, permissions, bus = manifest.capabilities, manifest.permissions, manifest.bus
    return {
        "capabilities": ", ".join([*wanted.required, *(f"{name} (optional)" for name in wanted.optional)]) or "none",
        "read files": ", ".join(permissions.read_files),
        "write files": ", ".join(permissions.write_files),
        "network hosts": ", ".join(permissions.network_hosts),
        "environment": ", ".join(permissions.environment_vars),
        "limits": ", ".join(f"{key} {value:,}" for key, value in manifest.resources if value is not None),
        "subscribe": ", ".join(map(str, bus.subscribe)),
        "may subscribe": ", ".join(map(str, bus.may_subscribe)),
        "publish": ", ".join(map(str, bus.publish)),
    }


def upgrade_lines(review: Review) -> Text:
    """What it would get that its predecessor has not, and whether it waits for that; nothing, where it does not."""
    text = Text()
    if not review.more and not review.swapped:
        return text
    state = "waits to be approved" if review.waits else "is approved"
    why = f"it gets more than {review.predecessor} has" if review.more else "other files of it were approved"
    text.append("\nupgrade", "cyan").append(f"  it {state}: {why}", "yellow")
    for one in review.more:
        text.append(f"\n  {printable(str(one))}")
    return text


def _setup(manifest: Manifest) -> dict[str, str]:
    retry = manifest.retry
    waits = f"{duration(retry.initial_delay_ms * 1e3)} to {duration(retry.max_delay_ms * 1e3)}"
    return {
        "settings": ", ".join(manifest.settings),
        "dependencies": ", ".join(
            f"{one.name} {one.version_req}{' (optional)' if one.optional else ''}" for one in manifest.dependencies
        ),
        "retry": f"after {', '.join(dict.fromkeys((*retry.on, 'unavailable')))}; {retry.max_attempts} attempts",
        "retry delays": f"{waits}, times {retry.multiplier:g} each, jitter {retry.jitter:g}",
        "rollout": in_words(manifest.rollout) if manifest.rollout else "",
    }
