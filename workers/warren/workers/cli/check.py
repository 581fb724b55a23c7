"""`warren check`: everything a plugin can be refused for without running it, and what it breaks for its callers.

No two plugins may have one name and version. Several versions of one plugin are compared each with the one below it;
with `--against` each with the version in use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.text import Text

from warren.manifests import (
    Abi,
    BreakingChange,
    Manifest,
    ManifestError,
    Policy,
    Problem,
    next_incompatible,
    unannounced_changes,
)
from warren.plugins.checks import check_plugin
from warren.plugins.errors import LoadFailed
from warren.plugins.files import PluginFiles, find_plugins

from ..rollout import in_words
from ..text import printable
from .exit_codes import ExitCode
from .json_data import print_json
from .output import stdout
from .policy import chosen_policy


@dataclass(frozen=True, slots=True)
class Break:
    """What breaks the callers of version `old`, by a version that may not."""

    old: str
    change: BreakingChange


@dataclass(frozen=True, slots=True)
class Finding:
    """What the check of one plugin came to; it is good when there are no problems."""

    path: Path
    manifest: Manifest | None = None
    abi: Abi | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    breaks: tuple[Break, ...] = ()


def run(paths: list[Path], against: Path | None, policy: Path | None, *, as_json: bool) -> ExitCode:
    """Check every plugin at or under `paths`, each once."""
    findings = _each_once(finding for path in paths for finding in _check_all(path, chosen_policy(policy)))
    findings = _compared_with_each_other(_in_one_place(findings))
    if against is not None:
        findings = _compared_with(findings, against)
    if as_json:
        print_json({"plugins": [_data(finding) for finding in findings]})
    else:
        _print(findings)
    return ExitCode.FAILED if any(finding.problems for finding in findings) else ExitCode.OK


def _each_once(findings: Iterator[Finding]) -> list[Finding]:
    return list({finding.path.parent.resolve() / finding.path.name: finding for finding in findings}.values())


def _found(path: Path) -> tuple[PluginFiles, ...]:
    return find_plugins(path) if path.is_dir() else (PluginFiles.beside(path),)


def _check_all(path: Path, policy: Policy) -> list[Finding]:
    return [_check(files, policy) for files in _found(path)] or [_nothing_at(path)]


def _nothing_at(path: Path) -> Finding:
    nothing = Problem(str(path), None, "", "there is no plugin here", "a plugin is a .wasm and a .toml of one stem")
    return Finding(path, problems=(nothing,))


def _check(files: PluginFiles, policy: Policy) -> Finding:
    try:
        checked = check_plugin(files, policy)
    except (ManifestError, LoadFailed) as error:
        return Finding(files.wasm, problems=_problems(error))
    return Finding(files.wasm, checked.manifest, checked.abi.name, checked.grant.notes)


def _problems(error: ManifestError | LoadFailed) -> tuple[Problem, ...]:
    if isinstance(error, ManifestError):
        return error.problems
    return (Problem(error.source, None, "", error.reason.removeprefix(f"{error.source}: ")),)


def _in_one_place(findings: list[Finding]) -> list[Finding]:
    """Each version of a plugin once: a worker refuses a second pair of files that has it."""
    first: dict[tuple[str, str], Path] = {}
    for finding in findings:
        if finding.manifest is not None:
            first.setdefault(_identity(finding.manifest), finding.path)
    return [_refused_beside(first.get(_identity(finding.manifest)), finding) for finding in findings]


def _refused_beside(first: Path | None, finding: Finding) -> Finding:
    if first is None or first == finding.path:
        return finding
    source, hint = str(finding.path.with_suffix(".toml")), "raise the version, or take one of them away"
    twice = Problem(source, None, "plugin.version", f"{' '.join(_identity(finding.manifest))} is {first} already", hint)
    return replace(finding, problems=(*finding.problems, twice))


def _compared_with_each_other(findings: list[Finding]) -> list[Finding]:
    """Each version of a plugin with the next lower one that is sound."""
    sound = [finding.manifest for finding in findings if finding.manifest is not None]
    sound.sort(key=lambda manifest: (manifest.name, manifest.version, str(manifest.version)))
    below = {
        (new.name, str(new.version)): old
        for old, new in pairwise(sound)
        if old.name == new.name and str(old.version) != str(new.version)
    }
    return [_compared(finding, below.get(_identity(finding.manifest))) for finding in findings]


def _compared_with(findings: list[Finding], in_use: Path) -> list[Finding]:
    """Each with the version that is in use; what cannot be read there comes last."""
    manifests, unread = _read_all(in_use)
    compared: list[Finding] = []
    for finding in findings:
        old = None if finding.manifest is None else _in_place_of(finding.manifest, manifests)
        if finding.manifest is not None and old is None:
            note = f"there is no {finding.manifest.name} in {in_use} to compare it with"
            compared.append(replace(finding, notes=(*finding.notes, note)))
        else:
            compared.append(_compared(finding, old))
    return [*compared, *unread]


def _read_all(path: Path) -> tuple[list[Manifest], list[Finding]]:
    manifests: list[Manifest] = []
    unread: list[Finding] = []
    found = _found(path)
    for files in found:
        try:
            manifests.append(files.read_manifest())
        except (ManifestError, LoadFailed) as error:
            unread.append(Finding(files.manifest, problems=_problems(error)))
    return manifests, unread if found else [_nothing_at(path)]


def _in_place_of(new: Manifest, in_use: list[Manifest]) -> Manifest | None:
    """The version that `new` comes after, or takes the place of: the highest not above it, or else the lowest."""
    versions = sorted((one for one in in_use if one.name == new.name), key=lambda one: one.version)
    not_above = [one for one in versions if one.version <= new.version]
    return not_above[-1] if not_above else next(iter(versions), None)


def _compared(finding: Finding, old: Manifest | None) -> Finding:
    new = finding.manifest
    if new is None or old is None:
        return finding
    breaks = tuple(Break(str(old.version), change) for change in unannounced_changes(old, new))
    breaks = tuple(one for one in breaks if one not in finding.breaks)
    source = str(finding.path.with_suffix(".toml"))
    hint = f"raise the version to {next_incompatible(old.version)}, or undo it"
    problems = (
        Problem(source, None, _key(one.change), f"{new.version} breaks callers of {one.old}: {one.change}", hint)
        for one in breaks
    )
    return replace(finding, problems=(*finding.problems, *problems), breaks=(*finding.breaks, *breaks))


def _identity(manifest: Manifest | None) -> tuple[str, str]:
    return ("", "") if manifest is None else (manifest.name, str(manifest.version))


def _key(change: BreakingChange) -> str:
    return ".".join(filter(None, ("actions", change.action, change.side)))


def _data(finding: Finding) -> dict[str, Any]:
    name, version = _identity(finding.manifest)
    return {
        "path": printable(str(finding.path)),
        "name": name or None,
        "version": version or None,
        "abi": finding.abi,
        "rollout": finding.manifest and finding.manifest.rollout and finding.manifest.rollout.model_dump(),
        "notes": finding.notes,
        "problems": [asdict(problem) for problem in finding.problems],
        "breaking": [{"old": one.old} | asdict(one.change) for one in finding.breaks],
        "ok": not finding.problems,
    }


def _print(findings: list[Finding]) -> None:
    console = stdout()
    for finding in findings:
        for problem in finding.problems:
            console.print(Text(printable(str(problem)), "red"), soft_wrap=True)
        if not finding.problems:
            place = printable(str(finding.path))
            line = Text.assemble(
                ("ok ", "green"),
                (f"{' '.join(_identity(finding.manifest))} ", "bold"),
                f"{finding.abi} ",
                (place, "dim"),
            )
            console.print(line, soft_wrap=True)
            if finding.manifest is not None and finding.manifest.rollout is not None:
                console.print(Text(f"   rollout: {in_words(finding.manifest.rollout)}", "dim"), soft_wrap=True)
        for note in finding.notes:
            console.print(Text(f"   note: {printable(note)}", "yellow"), soft_wrap=True)
