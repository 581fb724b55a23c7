"""Where the demo finds what it runs and reads, and the kit its SDKs: in the wheel beside the packages, in a checkout in
folders of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PACKAGES: Final = Path(__file__).parents[1]
_CHECKOUT: Final = Path(__file__).parents[3]


def sample_plugins() -> Path:
    """The folder of the sample plugins. Raises `FileNotFoundError`."""
    return _first(_PACKAGES / "plugins" / "samples", _CHECKOUT / "plugins" / "examples")


def sdk_folder() -> Path:
    """The folder of the SDKs, one for each language. Raises `FileNotFoundError`."""
    return _first(_PACKAGES / "plugins" / "sdk", _CHECKOUT / "plugins" / "sdk")


def sample_documents() -> list[Path]:
    """Warren's own documents. Raises `FileNotFoundError`."""
    packed = _PACKAGES / "workers" / "documents"
    return [_first(packed / name, _CHECKOUT / name) for name in ("README.md", "CHANGELOG.md")]


def _first(packed: Path, in_checkout: Path) -> Path:
    for path in (packed, in_checkout):
        if path.exists():
            return path
    raise FileNotFoundError(2, "not among what was installed; install Warren anew", str(packed))
