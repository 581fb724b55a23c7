"""The host as WIT has it. Where there is none, as when pytest imports a plugin, `outside` stands in."""

import json
from typing import Any

try:
    from componentize_py_types import Err  # pyright: ignore[reportMissingModuleSource]
    from wit_world.imports.host import Level, call, log  # pyright: ignore[reportMissingModuleSource]
except ImportError:
    from .outside import Err, Level, call, log  # type: ignore[assignment]

__all__ = ["Err", "Level", "as_json", "call", "log", "unicode"]


def unicode(text: str) -> str:
    """The text with U+FFFD for each surrogate that has no partner: that is no Unicode, and would end the run."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def as_json(value: Any) -> str:
    """Raises `TypeError` or `ValueError` for what JSON does not have, such as a set, or what is no number."""
    return unicode(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
