"""`warren worker`: serve plugins until told to stop."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..settings import WorkerSettings
from ..supervisor import run_worker
from .logs import configure_logging


def run(log_level: str, *, as_json: bool, **settings: Any) -> int:
    """`settings` are those of `WorkerSettings`."""
    return run_worker(WorkerSettings(**settings), partial(configure_logging, log_level, as_json=as_json))
