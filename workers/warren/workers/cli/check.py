"""`warren check`: everything a plugin can be refused for without running it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from warren.manifests import ManifestError, Policy, Problem
from warren.plugins.checks import check_plugin
from warren.plugins.errors import LoadFailed
from warren.plugins.files import PluginFiles, find_plugins

from ..text import printable
from .exit_codes import ExitCode
from .json_data import print_json
from .output import stdout


@dataclass(frozen=True, slots=True)
class Finding:
    """What the check of one plugin came to; it is good when there are no problems."""

    path: Path
    name: str | None = None
    version: str | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def run(paths: list[Path], *, as_json: bool) -> ExitCode:
    """Check every plugin at or under `paths`, each once."""
    findings = [finding for path in paths for finding in _check_all(path)]
    findings = list({finding.path: finding for finding in findings}.values())
    if as_json:
        print_json({"plugins": [_data(finding) for finding in findings]})
    else:
        _print(findings)
    return ExitCode.FAILED if any(finding.problems for finding in findings) else ExitCode.OK


def _check_all(path: Path) -> list[Finding]:
    found = find_plugins(path) if path.is_dir() else (PluginFiles.beside(path),)
    if not found:
        nothing = Problem(str(path), None, "", "there is no plugin here", "a plugin is a .wasm and a .toml of one stem")
        return [Finding(path, problems=(nothing,))]
    return [_check(files) for files in found]


def _check(files: PluginFiles) -> Finding:
    try:
        checked = check_plugin(files, Policy())
    except ManifestError as error:
        return Finding(files.wasm, problems=error.problems)
    except LoadFailed as error:
        reason = error.reason.removeprefix(f"{error.source}: ")
        return Finding(files.wasm, problems=(Problem(error.source, None, "", reason),))
    manifest = checked.manifest
    return Finding(files.wasm, manifest.name, str(manifest.version), checked.grant.notes)


def _data(finding: Finding) -> dict[str, Any]:
    return asdict(finding) | {"path": printable(str(finding.path)), "ok": not finding.problems}


def _print(findings: list[Finding]) -> None:
    console = stdout()
    for finding in findings:
        for problem in finding.problems:
            console.print(Text(printable(str(problem)), "red"), soft_wrap=True)
        if not finding.problems:
            place = printable(str(finding.path))
            line = Text.assemble(("ok ", "green"), (f"{finding.name} {finding.version} ", "bold"), (place, "dim"))
            console.print(line, soft_wrap=True)
        for note in finding.notes:
            console.print(Text(f"   note: {printable(note)}", "yellow"), soft_wrap=True)
