"""`warren test`: the cases that a plugin's author has written down, run in the real sandbox, with no broker."""

from __future__ import annotations

import asyncio
import difflib
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rich.text import Text

from ..kit.building import BUILT
from ..kit.case_runs import Surroundings, Tried, try_all
from ..kit.cases import PATTERN, Case, Cases, find_cases
from ..kit.errors import KitError
from ..kit.judging import Mismatch
from ..kit.project import MANIFEST_NAME
from ..text import printable
from .exit_codes import ExitCode
from .failures import WrongUsage
from .json_data import json_text, print_json
from .output import stdout
from .policy import chosen_policy

_COLOURS: Final = {"-": "red", "+": "green", "@": "dim"}


def run(
    folder: Path,
    plugins: Path | None,
    policy: Path | None,
    secrets: tuple[Path, ...],
    only: str | None,
    *,
    as_json: bool,
) -> ExitCode:
    """Run all cases, or those with `only` in their names; done well when there was one, and all of them held."""
    files = _chosen(find_cases(folder), only)
    if not files:
        of_that_name = "" if only is None else f" with {only!r} in its name"
        raise WrongUsage(f"{folder} has no case{of_that_name}", f"cases stand in files {PATTERN}")
    around = Surroundings(_built(folder, plugins), None if policy is None else chosen_policy(policy), secrets)
    try:
        tried = asyncio.run(_run(files, around, folder, tell=not as_json))
    except KitError as error:
        raise WrongUsage(str(error), error.hint) from error
    failed = sum(bool(one.mismatches) for one in tried)
    if as_json:
        print_json({"passed": len(tried) - failed, "failed": failed, "cases": [_data(one) for one in tried]})
    else:
        counts = f"{len(tried) - failed} passed" + (f", {failed} failed" if failed else "")
        stdout().print(Text(counts, "bold red" if failed else "bold green"))
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
            _print(one, folder)
    return tried


def _print(one: Tried, folder: Path) -> None:
    console = stdout()
    word, colour = ("failed", "bold red") if one.mismatches else ("passed", "green")
    place = printable(str(one.path.relative_to(folder)))
    line = Text.assemble((word, colour), f"  {place}: {printable(one.case.name)}  ", (f"{one.fuel:,} fuel", "dim"))
    console.print(line, soft_wrap=True)
    for mismatch in one.mismatches:
        for text in _difference(mismatch):
            console.print(text, soft_wrap=True)
    if one.mismatches:
        for line_of_log in one.outcome.logs:
            console.print(Text(f"        log: {printable(line_of_log.text)}", "dim"), soft_wrap=True)


def _difference(mismatch: Mismatch) -> list[Text]:
    """What was expected (-) and what there is (+), as the lines of a diff."""
    expected, actual = (json_text(value, indent=2).split("\n") for value in (mismatch.expected, mismatch.actual))
    if len(expected) == len(actual) == 1:
        lines = [f"-{expected[0]}", f"+{actual[0]}"]
    else:
        lines = list(difflib.unified_diff(expected, actual, lineterm="", n=2))[2:]
    texts = [Text(f"        {line}", _COLOURS.get(line[:1], "")) for line in lines]
    return [Text(f"        {mismatch.what}: expected (-), and got (+)"), *texts]


def _data(one: Tried) -> dict[str, Any]:
    return {
        "file": printable(str(one.path)),
        "name": one.case.name,
        "passed": not one.mismatches,
        "outcome": one.outcome.kind,
        "fuel": one.fuel,
        "mismatches": [
            {"what": mismatch.what, "expected": mismatch.expected, "actual": mismatch.actual}
            for mismatch in one.mismatches
        ],
    }
