"""`warren new`: a project that builds, or the languages it can be in."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.text import Text

from ..kit.errors import KitError
from ..kit.languages import language, languages
from ..kit.project import create_project
from .exit_codes import ExitCode
from .failures import WrongUsage
from .output import stdout


def run(name: str | None, lang: str | None, directory: Path | None) -> ExitCode:
    """Make the project and say what to do next; without a language, list them."""
    if lang is None:
        return _list()
    if name is None:
        raise WrongUsage("what is the plugin's name?", f"warren new hello --lang {lang}")
    folder = directory or Path(name)
    try:
        chosen = language(lang)
        create_project(name, chosen, folder)
    except KitError as error:
        raise WrongUsage(str(error), error.hint) from error
    place = shlex.quote(str(folder))
    console = stdout()
    console.print(Text.assemble(("made ", "green"), (name, "bold"), f" in {folder}/, in {chosen.toolchain.language}"))
    if missing := chosen.missing(folder):
        console.print(Text(f"   {missing.hint}", "yellow"), soft_wrap=True)
    for command in (
        f"warren build {place}",
        f"warren test {place}",
        f'warren call {name} greet \'{{"name": "Ada"}}\' --plugins {shlex.quote(str(folder / "build"))}',
    ):
        console.print(f"   {command}", soft_wrap=True)
    return ExitCode.OK


def _list() -> ExitCode:
    console = stdout()
    for one in languages():
        missing = one.missing(Path.cwd())
        state = ("here    ", "green") if missing is None else ("missing ", "yellow")
        console.print(Text.assemble((f"{one.name:<16}", "bold"), state, one.toolchain.about), soft_wrap=True)
        if missing is not None:
            console.print(Text(f"{'':16}{missing.hint}", "dim"), soft_wrap=True)
    console.print("\nwarren new NAME --lang LANGUAGE makes a project")
    return ExitCode.OK
