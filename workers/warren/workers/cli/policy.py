"""The policy that a command was given."""

from __future__ import annotations

from pathlib import Path

from warren.manifests import Policy, PolicyError
from warren.plugins import read_policy

from .failures import WrongUsage


def chosen_policy(path: Path | None) -> Policy:
    """The policy in that file, or the one that holds without one. Raises `WrongUsage`."""
    try:
        return Policy() if path is None else read_policy(path)
    except PolicyError as error:
        raise WrongUsage(str(error)) from error
