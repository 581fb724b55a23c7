"""`toolchain.toml`: what a language's projects are built with, as data; its keys stand in `plugins/sdk/README.md`.

Finding a tool runs its probe: that a program is on PATH says little, since pyenv, rustup and the like put shims there
for what is not installed. Rejected: commands as lines for a shell, which quote names and paths in three ways.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from .errors import KitError, ToolMissing

FILE_NAME: Final = "toolchain.toml"

#: A compiler that does not tell its version within this has hung.
PROBE_TIMEOUT_S: Final = 60.0

Word = Annotated[str, StringConstraints(strict=True, min_length=1)]
Command = Annotated[tuple[Word, ...], Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(_Table):
    """One way to call a tool; `probe` is a whole command, in place of the tool's own arguments."""

    run: Command
    probe: Command | None = None
    env: Mapping[str, str] = {}


class Tool(_Table):
    """A tool, where it may be, and how it is installed."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$")]
    at: Annotated[tuple[Place, ...], Field(min_length=1)]
    probe: tuple[Word, ...] = ("--version",)
    prints_folder: bool = False
    install: Annotated[tuple[Word, ...], Field(min_length=1)]


class Recipe(_Table):
    """How a module is built. Without `wasm_opt` it is left as it comes out."""

    commands: Annotated[tuple[Command, ...], Field(min_length=1)]
    module: Word = ".build/{name}.wasm"
    wasm_opt: tuple[Word, ...] = ()
    env: Mapping[str, str] = {}


class Toolchain(_Table):
    """All of `toolchain.toml`."""

    language: Word
    about: Word
    tools: tuple[Tool, ...] = ()
    release: Recipe
    debug: Recipe


@dataclass(frozen=True, slots=True)
class Found:
    """The tools as they can be called from a project's folder, by their names, and the variables they need."""

    commands: Mapping[str, tuple[str, ...]]
    env: Mapping[str, str]


def read_toolchain(path: Path) -> Toolchain:
    """Raises `KitError`, which names the file and the key."""
    try:
        return Toolchain.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        hint = "warren new NAME --lang LANGUAGE makes a project"
        raise KitError(f"{path}: there is no such file; it says what builds a plugin", hint) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KitError(f"{path}: not TOML: {error}") from error
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise KitError("\n".join(f"{path}: {line}" for line in wrong)) from error


def find_tools(toolchain: Toolchain, project: Path) -> Found:
    """Raises `ToolMissing` for the first that is not here."""
    commands: dict[str, tuple[str, ...]] = {}
    env: dict[str, str] = {}
    for tool in toolchain.tools:
        place = next((place for place in tool.at if _answers(tool, place, project)), None)
        if place is None:
            raise ToolMissing(tool.name, toolchain.language, [_filled(line, {}, project) for line in tool.install])
        commands[tool.name] = tuple(_called(place.run, project))
        env |= place.env
    return Found(commands, env)


def expand(command: Command, found: Found, values: Mapping[str, str], project: Path) -> list[str]:
    """A command as it is run in the project's folder. Raises `KitError` for a placeholder that nothing stands for."""
    arguments: list[str] = []
    for word in command:
        tool = found.commands.get(word[1:-1]) if word.startswith("{") and word.endswith("}") else None
        if tool is not None:
            arguments += tool
        elif "*" in word:
            arguments += sorted(str(path.relative_to(project)) for path in project.glob(word))
        else:
            arguments.append(_filled(word, values, project))
    return arguments


def _called(command: Command, project: Path) -> Iterator[str]:
    """A relative path with a `/` is one of the project."""
    first, *rest = (_filled(word, {}, project) for word in command)
    yield str(project / first) if "/" in first else first
    yield from rest


def _answers(tool: Tool, place: Place, project: Path) -> bool:
    command = list(_called(place.probe or (*place.run, *tool.probe), project))
    if shutil.which(command[0]) is None:
        return False
    try:
        ran = subprocess.run(  # noqa: S603 - see the package's docstring
            command,
            cwd=project,
            env={**os.environ, **place.env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ran.returncode == 0 and (not tool.prints_folder or Path(ran.stdout.strip()).is_dir())


def _filled(word: str, values: Mapping[str, str], project: Path) -> str:
    known = {"python": sys.executable, "project": str(project), **values}

    def value(match: re.Match[str]) -> str:
        if (found := known.get(match[1])) is None:
            raise KitError(f"{FILE_NAME}: nothing stands for {match[0]}", f"known are: {', '.join(known)}")
        return found

    return re.sub(r"\{(\w[\w-]*)\}", value, word)
