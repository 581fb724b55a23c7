"""What is wrong at which path, in words. A finding becomes a `Problem` once its line is known."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from .errors import shown
from .lines import Path

#: The least likeness (difflib's ratio) at which a known name is worth suggesting.
LIKENESS: Final = 0.6

_EXPECTED: Final = {
    "string_type": "a string",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "an array",
    "model_type": "a table",
    "dict_type": "a table",
}

_KINDS: Final[dict[type, str]] = {
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    str: "a string",
    list: "an array",
    dict: "a table",
}

_BOUNDS: Final = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than_equal": ("le", "at most"),
}

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence about the value at `path`, and what to do about it."""

    path: Path
    message: str
    hint: str | None = None


def unknown_key(path: Path, known: Iterable[str]) -> Finding:
    """A key that is not among the `known` ones of its table."""
    return Finding(path, f"unknown key {place(path)}", nearest(path[-1], known))


def wrong_type(path: Path, expected: str, value: object) -> Finding:
    """A value that is not `expected` (with its article)."""
    return Finding(path, f"{place(path)} must be {expected}, not {kind(value)}")


def from_validation(error: ErrorDetails, path: Path, root: type[BaseModel]) -> Finding:
    """One of pydantic's findings about `root`, retold; `path` is where the manifest has what pydantic calls `loc`."""
    what, value, context = error["type"], error["input"], error.get("ctx", {})
    if what == "missing":
        return Finding(path, f"missing key {place(path)}")
    if what == "extra_forbidden":
        fields = _model_at(error["loc"], root).model_fields
        return unknown_key(path, (field.alias or name for name, field in fields.items()))
    if what in _EXPECTED:
        return wrong_type(path, _EXPECTED[what], value)
    if what in _BOUNDS:
        name, words = _BOUNDS[what]
        return Finding(path, f"{place(path)} must be {words} {context[name]}, not {shown(value)}")
    if what == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        return Finding(path, f"{place(path)} must be {context['expected']}, not {shown(value)}", nearest(value, known))
    reason = context.get("error", error["msg"])
    return Finding(path, f"{place(path)}: {reason}")


def nearest(given: object, known: Iterable[str]) -> str | None:
    """A hint at the known name that `given` may have been meant to be."""
    close = difflib.get_close_matches(given, list(known), 1, LIKENESS) if isinstance(given, str) else []
    return f"did you mean '{close[0]}'?" if close else None


def place(path: Path) -> str:
    """A path as a person names it: `'memory_mb' in [resources]`, `'read_files[2]' in [permissions]`."""
    indexes = len(list(takewhile(lambda step: isinstance(step, int), reversed(path))))
    end = len(path) - indexes
    leaf = f"'{dotted(path[end - 1 :])}'"
    table = path[: end - 1]
    if not table:
        return leaf
    header = dotted(tuple(step for step in table if isinstance(step, str)))
    return f"{leaf} in [[{header}]]" if isinstance(table[-1], int) else f"{leaf} in [{header}]"


def dotted(path: Path) -> str:
    """A path in one line: `plugin.dependencies[0].name`. Keys that TOML would quote are quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if _BARE_KEY.fullmatch(step) else json.dumps(step[:60]))
    return text


def kind(value: object) -> str:
    """What TOML calls a value of this type, with its article."""
    return _KINDS.get(type(value), "a date or time")


def _model_at(loc: tuple[int | str, ...], root: type[BaseModel]) -> type[BaseModel]:
    """The model whose table holds the key at `loc`."""
    model = root
    for step in loc[:-1]:
        field = model.model_fields.get(str(step))
        model = (field and _model_within(field.annotation)) or model
    return model


def _model_within(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_within, get_args(annotation))), None)
