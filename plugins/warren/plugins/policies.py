"""The operator's policy, read from its file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from warren.manifests import Policy, PolicyError, Problem, parse_policy


def read_policy(path: Path | str) -> Policy:
    """The policy in a file; where it keeps approvals is seen from there. Raises `PolicyError`."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PolicyError([Problem(str(path), None, "", f"cannot be read: {error.strerror}")]) from error
    policy = parse_policy(data, str(path))
    return policy if policy.approvals is None else replace(policy, approvals=str(path.parent / policy.approvals))
