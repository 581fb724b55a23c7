"""What the tests of the command line share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from warren.plugins.artefacts import CACHE_VARIABLE


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command sets up logging for its process; here that is the tests' process, and the streams are gone after it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests must not set options, nor colours."""
    for name in os.environ:
        if name.startswith("WARREN_") and name != CACHE_VARIABLE:
            monkeypatch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
