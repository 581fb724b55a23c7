"""The manifest's JSON Schema (draft 2020-12), for editors: what `plugin.schema.json` holds, made from the models.

It accepts whatever `parse_manifest` accepts. It refuses what is wrong in form (unknown keys, types, ranges, names), and
leaves to the parser what a schema cannot say, or only badly: globs, hosts, version requirements, what may stand once.
"""

from __future__ import annotations

import json
from typing import Any, Final

from .forms import PLUGIN_KEYS, SECTIONS
from .json_schema import DRAFT
from .manifest import Manifest

#: Where the schema of this code's version is, beside it.
FILE_NAME: Final = "plugin.schema.json"


def plugin_schema() -> dict[str, Any]:
    """The schema of both forms: with a table `[plugin]`, and flat."""
    schema = _plain(Manifest.model_json_schema())
    fields = schema["properties"]
    table = schema["$defs"]["Capabilities"]
    own = {key: fields[key] for key in PLUGIN_KEYS}
    sections = {key: fields[key] for key in SECTIONS}
    sections["capabilities"] = {"anyOf": [fields["capabilities"], table["properties"]["required"]]}
    sections["actions"] = fields["actions"] | {"additionalProperties": False}
    required = ["name", "version"]
    sectioned = {"plugin": _table(own, required), "dependencies": fields["libraries"], **sections}
    return {
        "$schema": DRAFT,
        "title": "Warren plugin manifest",
        "description": schema["description"],
        "anyOf": [_table(sectioned, ["plugin"]), _table(own | sections, required)],
        "$defs": schema["$defs"],
    }


def schema_text() -> str:
    """The schema as it is published."""
    return json.dumps(plugin_schema(), indent=2, ensure_ascii=False) + "\n"


def _table(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _plain(schema: Any) -> Any:
    """As pydantic has it, less what helps nobody: null, which TOML lacks, tables as defaults, keys as titles."""
    match schema:
        case {"anyOf": [dict() as first, {"type": "null"}], **rest}:
            return _plain(first | {key: value for key, value in rest.items() if key not in ("default", "title")})
        case dict():
            return {key: _plain(value) for key, value in schema.items() if not _says_nothing(key, value)}
        case list():
            return [_plain(item) for item in schema]
        case _:
            return schema


def _says_nothing(key: str, value: Any) -> bool:
    return (key == "title" and isinstance(value, str)) or (
        key == "default" and not isinstance(value, str | int | float)
    )
