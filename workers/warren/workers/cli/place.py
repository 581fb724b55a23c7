"""Where a command does its work."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """An installation on a broker, and how long it may take to answer."""

    broker: str
    prefix: str
    timeout_s: float
