"""What keeps a project from being made or built."""

from __future__ import annotations

from collections.abc import Sequence


class KitError(Exception):
    """What went wrong, as a sentence; `hint` says what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ToolMissing(KitError):
    """A tool of the toolchain is not here; `install` are the commands that bring it, each of them enough."""

    def __init__(self, tool: str, language: str, install: Sequence[str]) -> None:
        super().__init__(
            f"{tool} is missing, which builds plugins in {language}", f"install it: {'; or: '.join(install)}"
        )
        self.tool = tool
        self.install = tuple(install)


class BuildFailed(KitError):
    """A command of the toolchain ended badly; it has said why itself."""

    def __init__(self, command: str, code: int) -> None:
        super().__init__(f"{command} ended with exit code {code}")
        self.code = code
