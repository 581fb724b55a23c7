"""`warren build`: a project's module, by its language's own toolchain, and its manifest beside it."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from ..kit.building import Built, build
from ..kit.errors import BuildFailed, KitError
from ..text import printable, size
from .exit_codes import ExitCode
from .output import print_error, print_note, stdout
from .policy import chosen_policy


def run(project: Path, plugins: Path | None, policy: Path | None, *, debug: bool) -> ExitCode:
    """Build, and say where it is and how large."""
    try:
        built = build(project, plugins=plugins, debug=debug, policy=chosen_policy(policy))
    except BuildFailed as error:
        print_error(str(error))
        return ExitCode.FAILED
    except KitError as error:
        print_error(str(error), error.hint)
        return ExitCode.FAILED
    stdout().print(told(built), soft_wrap=True)
    if built.note:
        print_note(built.note)
    return ExitCode.OK


def told(built: Built) -> Text:
    """One line: what was built, where it is, and what it was before it was made smaller."""
    sizes = f"{size(built.bytes_before)} → {size(built.bytes_after)}" if built.optimized else size(built.bytes_after)
    return Text.assemble(
        ("built ", "green"),
        (f"{built.manifest.name} {built.manifest.version} ", "bold"),
        f"{printable(str(built.files.wasm))} ",
        (sizes, "dim"),
    )
