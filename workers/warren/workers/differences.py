"""Where two values of JSON differ, in a few lines for a person. What is only written differently does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from .text import printable

#: Differences that are named, and characters of a value that are shown.
MAX_NAMED: Final = 5
MAX_SHOWN: Final = 60


def differences(old: Any, new: Any) -> tuple[str, ...]:
    """The first few, each as `.a.b[3]: 5, now 6`. Nothing is given when there are none."""
    return tuple(islice(_differences(old, new, ""), MAX_NAMED))


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old | new:
            yield from _member(old, new, name, f"{path}.{printable(name[:MAX_SHOWN])}")
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(min(len(old), len(new))):
            yield from _differences(old[index], new[index], f"{path}[{index}]")
        if len(old) != len(new):
            yield f"{path or '.'}: {len(old):,} items, now {len(new):,}"
    elif old != new or isinstance(old, bool) != isinstance(new, bool):  # to Python, True is 1
        yield f"{path or '.'}: {_shown(old)}, now {_shown(new)}"


def _member(old: dict[str, Any], new: dict[str, Any], name: str, path: str) -> Iterator[str]:
    if name not in new:
        yield f"{path}: {_shown(old[name])}, now gone"
    elif name not in old:
        yield f"{path}: not there, now {_shown(new[name])}"
    else:
        yield from _differences(old[name], new[name], path)


def _shown(value: Any) -> str:
    text = printable(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
