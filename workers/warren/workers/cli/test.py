"""`warren test`: the cases that a plugin's author has written down, run in the real sandbox, with no broker."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from warren.plugins import enabled_functions

from ..kit.building import BUILT
from ..kit.case_runs import Surroundings, Tried, try_all
from ..kit.cases import PATTERN, Case, Cases, find_cases
from ..kit.errors import KitError
from ..kit.project import MANIFEST_NAME
from ..text import printable
from .case_view import print_counts, print_tried
from .exit_codes import ExitCode
from .failures import WrongUsage
from .json_data import print_json
from .logs import configure_logging
from .policy import chosen_policy


def run(
    folder: Path,
    plugins: Path | None,
    policy: Path | None,
    only: str | None,
    *,
    secrets: tuple[Path, ...],
    host_functions: tuple[str, ...],
    as_json: bool,
) -> ExitCode:
    """Run all cases, or those with `only` in their names; done well when there was one, and all of them held."""
    configure_logging("warning")
    files = _chosen(find_cases(folder), only)
    if not files:
        of_that_name = "" if only is None else f" with {only!r} in its name"
        raise WrongUsage(f"{folder} has no case{of_that_name}", f"cases stand in files {PATTERN}")
    around = Surroundings(
        _built(folder, plugins),
        None if policy is None else chosen_policy(policy),
        secrets,
        tuple(enabled_functions(host_functions)),
    )
    try:
        tried = asyncio.run(_run(files, around, folder, tell=not as_json))
    except KitError as error:
        raise WrongUsage(str(error), error.hint) from error
    failed = sum(bool(one.mismatches) for one in tried)
    if as_json:
        print_json({"passed": len(tried) - failed, "failed": failed, "cases": [_data(one) for one in tried]})
    else:
        print_counts(len(tried) - failed, failed)
    return ExitCode.FAILED if failed else ExitCode.OK


def _chosen(files: tuple[Cases, ...], only: str | None) -> list[Cases]:
    def is_chosen(case: Case) -> bool:
        return only is None or only in case.name

    chosen = [replace(file, cases=tuple(filter(is_chosen, file.cases))) for file in files]
    return [file for file in chosen if file.cases]


def _built(folder: Path, plugins: Path | None) -> Path:
    """Where the plugins are: of a project, what it was built to."""
    if plugins is not None or not (folder / MANIFEST_NAME).exists():
        return plugins or folder
    if not (folder / BUILT).is_dir():
        raise WrongUsage(f"{folder} has not been built", f"warren build {folder}")
    return folder / BUILT


async def _run(files: list[Cases], around: Surroundings, folder: Path, *, tell: bool) -> list[Tried]:
    tried: list[Tried] = []
    async for one in try_all(files, around):
        tried.append(one)
        if tell:
            print_tried(one, folder)
    return tried


def _data(one: Tried) -> dict[str, Any]:
    return {
        "file": printable(str(one.path)),
        "name": one.case.name,
        "passed": not one.mismatches,
        "outcome": one.ended.kind,
        "fuel": one.fuel,
        "mismatches": [
            {"what": mismatch.what, "expected": mismatch.expected, "actual": mismatch.actual}
            for mismatch in one.mismatches
        ],
    }
