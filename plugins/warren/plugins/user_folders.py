"""Warren's folders in a user's own, where the XDG base directory specification has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def user_folder(variable: str, below_home: str, environment: Mapping[str, str]) -> Path | None:
    """`warren` in the folder that `variable` names, else in `below_home`; None for a user who has no home either."""
    named = Path(environment.get(variable, ""))
    if named.is_absolute():
        return named / "warren"
    try:
        return Path.home() / below_home / "warren"
    except RuntimeError:
        return None


def state_folder(environment: Mapping[str, str]) -> Path | None:
    """For what plugins keep."""
    return user_folder("XDG_STATE_HOME", ".local/state", environment)
