"""A guest's linear memory, written to a file as it was when the run ended, and beside it what it is, in JSON.

The memory is the file, byte for byte, so that an address is an offset: what is known of it stands beside it, at
`<file>.json`. A dump has whatever the guest had, secrets that it was given among them: only its owner can read it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from pydantic_core import to_json

from .debugging import Capture
from .guest import PAGE_BYTES
from .outcome import Outcome

_OWNER_ALONE: Final = 0o600


def write_dump(path: Path, capture: Capture, outcome: Outcome, *, plugin: str, version: str) -> Path:
    """Write both files, in place of what is there; the path of the JSON. Raises OSError."""
    about: dict[str, Any] = {
        "plugin": plugin,
        "version": version,
        "outcome": outcome.kind,
        "error": outcome.error,
        "backtrace": outcome.backtrace,
        "fuel": outcome.fuel,
        "pages": len(capture.memory) // PAGE_BYTES,
        "bytes": len(capture.memory),
        "globals": {name: f"0x{bits[::-1].hex()}" for name, bits in capture.globals.items()},
    }
    beside = path.with_name(f"{path.name}.json")
    _write(path, capture.memory)
    _write(beside, to_json(about, indent=2) + b"\n")
    return beside


def _write(path: Path, content: bytes) -> None:
    """Written aside and moved there, so that whatever stood there, a link or a file of others, is not written into."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ALONE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
